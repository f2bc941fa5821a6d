// Checks the English of documents, comments and test titles against CONTRIBUTING.md's style guide. Prints one line per
// finding and exits 1 if there is any. Usage: node .ci/prose.js [FILE...]; without files it reads all tracked ones.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';

const MOST_WORDS = 30;
const MOST_COLUMNS = 120;
const IGNORED = /^(bench\/results|LICENSE|test\/golden|models\/.*\/LICENSE)/;
const PEOPLE = /\b(who|whom|whoever|nobody|everybody|somebody|anybody)\b/i;
const HEADLESS = /^(what|who|whoever|whichever|those (that|who|which)|one that|the one that)\b(?!.*\?)/i;
const UNDATED =
  /\b(now|of late|any more|nowadays|(as|than|like|of|from) before|(until|since|by|till) then)\b|\bbefore[.;:)]/i;
const DATED = /\b(19|20)\d\d-\d\d|\b[0-9a-f]{7,40}\b/;

/** Paragraphs of a Markdown text without code, tables, headings and HTML: [line number, text]. */
function markdown(text) {
  const prose = text.replace(/^---\n[\s\S]*?\n---\n/, (yaml) => '\n'.repeat(yaml.split('\n').length - 1));
  const blank = (code) => '\n'.repeat(code.split('\n').length - 1);
  return paragraphs(
    prose
      .replace(/^( *)(```|~~~)[\s\S]*?^\1\2 *$/gm, blank)
      .split('\n')
      .map((line) =>
        /^\s*(\||#|<|\[[^\]]+\]:|!\[)/.test(line) ? '' : line.replace(/^(\s*)([-*>]|\d+\.)\s/, '\u0000$2 '),
      ),
  );
}

/** Blocks of comment lines, and the titles of tests: [line number, text]. */
function code(text, mark) {
  const lines = text.split('\n');
  const comment = mark === '#' ? /^\s*# ?(.*)$/ : /^\s*(?:\/\/|\/?\*\*?(?!\/)) ?(.*?)(?:\*\/)?$/;
  const found = paragraphs(
    lines.map((line) => (comment.exec(line)?.[1] ?? '').replace(/^\s*([-*]|@\w+(?: \w+)?|\d+\.)\s+/, '\u0000 ')),
  );
  lines.forEach((line, index) => {
    const title = /\btest\(\s*(['"`])(.*?)\1,/.exec(line)?.[2];
    if (title !== undefined) found.push([index + 1, title]);
  });
  return found;
}

/** Joins consecutive lines; an empty line or a list mark begins the next paragraph. */
function paragraphs(lines) {
  const found = [];
  let open = false;
  lines.forEach((line, index) => {
    const text = line.replace('\u0000', '').trim();
    if (text === '') open = false;
    else if (open && !line.includes('\u0000')) found.at(-1)[1] += ` ${text}`;
    else open = found.push([index + 1, text]) > 0;
  });
  return found;
}

function sentences(paragraph) {
  const plain = paragraph
    .replace(/^[-*>]\s|^\d+\.\s/, '')
    .replace(/`[^`]*`/g, 'code')
    .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
    .replace(/[*_]{1,2}/g, '');
  return plain.split(/(?<=[.!?])["')]*\s+(?=["'(]*[A-Z0-9`])/);
}

function complaints(sentence, isDocument) {
  const words = sentence.split(/\s+/).filter((word) => /\w/.test(word)).length;
  const found = [];
  if (words > MOST_WORDS) found.push(`${words} words (at most ${MOST_WORDS})`);
  const person = PEOPLE.exec(sentence);
  if (person) found.push(`"${person[0]}": name the request, process or person`);
  if (HEADLESS.test(sentence)) found.push('the subject is a clause: name the thing');
  const undated = isDocument && !DATED.test(sentence) ? UNDATED.exec(sentence) : null;
  if (undated) found.push(`"${undated[0]}" without a date or a commit`);
  return found;
}

const tracked = () =>
  execFileSync('git', ['ls-files', '*.md', '*.ts', '*.js', '*.py'], { encoding: 'utf8' }).trim().split('\n');
const files = (process.argv.length > 2 ? process.argv.slice(2) : tracked()).filter(
  (file) => !IGNORED.test(file) && existsSync(file),
);
let count = 0;
const report = (file, line, complaint, text) => {
  count += 1;
  console.log(`${file}:${line}: ${complaint}: ${text.slice(0, 100)}`);
};
for (const file of files) {
  const text = readFileSync(file, 'utf8');
  const isDocument = file.endsWith('.md');
  const found = isDocument ? markdown(text) : code(text, file.endsWith('.py') ? '#' : '//');
  for (const [line, paragraph] of found) {
    for (const sentence of sentences(paragraph)) {
      for (const complaint of complaints(sentence, isDocument)) report(file, line, complaint, sentence);
    }
  }
  if (isDocument) {
    let fenced = false;
    text.split('\n').forEach((line, index) => {
      if (/^\s*(```|~~~)/.test(line)) fenced = !fenced;
      const isProse = !fenced && !/^\s*(\||<|#|!\[|\[[^\]]+\]:)|https?:\/\/\S{60}/.test(line);
      if (isProse && line.length > MOST_COLUMNS)
        report(file, index + 1, `${line.length} columns (at most ${MOST_COLUMNS})`, line);
    });
  }
}
console.log(`${files.length} files, ${count} findings`);
process.exitCode = count > 0 ? 1 : 0;
