// SPDX-License-Identifier: Apache-2.0
// What a conformance test found: a table with a line for each case, as text in build/.
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const top = join(dirname(fileURLToPath(import.meta.url)), '../..');

export class Table {
  rows = [];

  add(section, name, expected, got) {
    const ok = expected === got;
    this.rows.push({ section, name, expected, got, ok });
    return ok;
  }

  toString() {
    const columns = ['section', 'name', 'expected', 'got'];
    const shown = [{ section: 'section', name: 'case', expected: 'expected', got: 'got' },
      ...this.rows.map((row) => ({ ...row, got: row.ok ? 'as expected' : row.got }))];
    const width = columns.map((column) => Math.max(...shown.map((row) => row[column].length)));
    const lines = shown.map((row) => columns.map((column, i) => row[column].padEnd(width[i])).join('  ').trimEnd());
    return `${lines.join('\n')}\n\n${this.rows.filter(({ ok }) => ok).length} of ${this.rows.length} as expected\n`;
  }

  // build/conformance-NAME.txt
  write(name) {
    mkdirSync(join(top, 'build'), { recursive: true });
    writeFileSync(join(top, 'build', `conformance-${name}.txt`), this.toString());
  }
}
