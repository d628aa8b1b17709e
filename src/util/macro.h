/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The vocabulary of the whole code base: owning locals, ownership transfer, small arithmetic.
 *
 * Every local variable that owns something carries _cleanup_. To hand it on, write TAKE_PTR(x) or
 * TAKE_FD(x), which leave the variable empty so that its cleanup does nothing. */

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _printf_(a, b) __attribute__((format(printf, a, b)))
#define _unused_ __attribute__((unused))
#define _sentinel_ __attribute__((sentinel))
#define _pure_ __attribute__((pure))

#define TAKE_GENERIC(variable, empty)                                                                       \
        ({                                                                                                  \
                typeof(variable) *_source = &(variable);                                                    \
                typeof(variable) _taken = *_source;                                                         \
                *_source = (empty);                                                                         \
                _taken;                                                                                     \
        })
#define TAKE_PTR(pointer) TAKE_GENERIC(pointer, NULL)
#define TAKE_FD(fd) TAKE_GENERIC(fd, -EBADF)

/* Defines name##p(), the function that _cleanup_() wants for pointers of this type. */
#define DEFINE_CLEANUP(type, name)                                                                          \
        static inline _unused_ void name##p(type *p) {                                                      \
                if (*p)                                                                                     \
                        name(*p);                                                                           \
        }

static inline void freep(void *p) {
        free(*(void **) p);
}
#define _cleanup_free_ _cleanup_(freep)

/* Allocates one zeroed object, or n of them; NULL when out of memory or n is too large. */
#define new0(type, n) ((type *) calloc((n), sizeof(type)))

/* free() that answers NULL: `x = mfree(x);` */
static inline void *mfree(void *p) {
        free(p);
        return NULL;
}

#define ELEMENTSOF(array) (sizeof(array) / sizeof((array)[0]))

#define CONTAINER_OF(pointer, type, member)                                                                 \
        ({                                                                                                  \
                const typeof(((type *) NULL)->member) *_member = (pointer);                                 \
                (type *) ((char *) _member - offsetof(type, member));                                       \
        })

/* Of n elements; the array may be NULL, and then there are none. */
#define FOREACH_ARRAY(i, array, n)                                                                          \
        for (typeof((array)[0]) *i = (array), *_end_##i = i ? i + (n) : i; i < _end_##i; i++)

/* In all places where the other end decides what happens, and so in most, this is not the right thing:
 * assert only what the program itself guarantees. Stays active in release builds. */
#define assert_se(expression)                                                                               \
        do {                                                                                                \
                if (__builtin_expect(!(expression), 0))                                                     \
                        abort();                                                                            \
        } while (0)
