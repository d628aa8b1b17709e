/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/conf-parse.h"

#include <ctype.h>
#include <stdbool.h>

#include "util/string-util.h"

typedef enum SectionState {
        SECTION_NONE, /* before the first header */
        SECTION_BAD, /* behind one that was a problem: its keys are passed over */
        SECTION_GOOD,
} SectionState;

typedef struct ParseState {
        const ConfParser *parser;
        void *userdata;
        unsigned line;
        SectionState section_state;
        char section[CONF_MAX_NAME + 1];
} ParseState;

static bool is_blank(char c) {
        return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

/* Cuts blanks off both ends, in place. */
static char *strip(char *s) {
        while (is_blank(*s))
                s++;
        size_t n = strlen(s);
        while (n > 0 && is_blank(s[n - 1]))
                n--;
        s[n] = 0;
        return s;
}

static bool name_is_valid(const char *s) {
        size_t n = strlen(s);

        if (n == 0 || n > CONF_MAX_NAME)
                return false;
        for (size_t i = 0; i < n; i++)
                if (!isalnum((unsigned char) s[i]))
                        return false;
        return true;
}

static void problem(ParseState *state, const char *text) {
        state->parser->on_problem(state->line, text, state->userdata);
}

static void parse_section(ParseState *state, char *s) {
        size_t n = strlen(s);

        state->section_state = SECTION_BAD;
        if (s[n - 1] != ']')
                return problem(state, "a section header ends in \"]\"");
        s[n - 1] = 0;
        s = strip(s + 1);
        if (!name_is_valid(s))
                return problem(state, "a section's name is made of letters and digits");
        memcpy(state->section, s, strlen(s) + 1);
        state->section_state = SECTION_GOOD;
}

static void parse_assignment(ParseState *state, char *s) {
        char *equals = strchr(s, '=');

        if (!equals)
                return problem(state, "expected \"[Section]\", \"Key=Value\" or a comment");
        *equals = 0;
        char *name = strip(s), *value = strip(equals + 1);
        if (!name_is_valid(name))
                problem(state, "a key is made of letters and digits");
        else if (state->section_state == SECTION_NONE)
                problem(state, "a key before the first [Section]");
        else if (state->section_state == SECTION_GOOD)
                state->parser->on_assignment(state->line, state->section, name, value, state->userdata);
}

static void parse_line(ParseState *state, const char *text, size_t size) {
        char line[CONF_MAX_LINE + 1];

        if (size > CONF_MAX_LINE)
                return problem(state, "the line is too long");
        if (!utf8_is_valid(text, size))
                return problem(state, "the line is not valid UTF-8 text");
        memcpy(line, text, size);
        line[size] = 0;
        char *s = strip(line);
        if (*s == 0 || *s == '#' || *s == ';')
                return;
        if (*s == '[')
                parse_section(state, s);
        else
                parse_assignment(state, s);
}

void conf_parse(const char *text, size_t size, const ConfParser *parser, void *userdata) {
        ParseState state = {.parser = parser, .userdata = userdata};
        const char *end = text + size;

        while (text < end) {
                const char *eol = memchr(text, '\n', (size_t) (end - text)) ?: end;
                state.line++;
                parse_line(&state, text, (size_t) (eol - text));
                text = eol == end ? end : eol + 1;
        }
}
