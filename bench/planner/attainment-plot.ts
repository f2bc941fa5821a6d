/**
 * Draws the README's plot: attainment against load, from the results table of docs/router.md. The SVG has no
 * background, and its colours are readable on white and on black.
 */

interface Side {
  /** Column of the table. */
  readonly column: string;
  readonly label: string;
  readonly color: string;
  readonly dash: string;
}

interface Point {
  readonly load: number;
  readonly percent: number;
  readonly quality: number;
}

const SIDES: readonly Side[] = [
  { column: 'Routed', label: 'router', color: '#2f81f7', dash: '' },
  { column: 'Simple router', label: 'simple router', color: '#2da44e', dash: '8 4' },
  { column: 'Pinned 10', label: 'pinned exit 10', color: '#c9821f', dash: '2 4' },
  { column: 'Pinned 30', label: 'pinned exit 30', color: '#d1495b', dash: '8 3 2 3' },
];
/** Start of the rows in the table, and the title above the panel. */
const PANELS = [
  { workload: 'short, Poisson', title: 'short answers, Poisson arrivals' },
  { workload: 'short, bursts', title: 'short answers, bursts of 8 requests' },
] as const;
const WIDTH = 860;
const HEIGHT = 400;
const PANEL = { left: [56, 476], width: 350, top: 34, height: 240 } as const;
const MAX_LOAD = 2;
const INK = '#7d8590';

const cellsOf = (row: string): string[] =>
  row
    .split('|')
    .slice(1, -1)
    .map((cell) => cell.trim());

/** @throws Error if the table lacks the column or the workload */
function pointsOf(markdown: string, workload: string, column: string): Point[] {
  const rows = markdown.split('\n');
  const header = rows.find((row) => row.startsWith('| Workload'));
  const index = header === undefined ? -1 : cellsOf(header).indexOf(column);
  const points = rows
    .filter((row) => row.startsWith(`| ${workload} `))
    .map((row) => {
      const cells = cellsOf(row);
      const match = /^([\d.]+) \(([\d.]+)\)$/.exec(cells[index] ?? '');
      const load = Number(cells[0]?.split(' ').at(-1));
      return { load, percent: Number(match?.[1]), quality: Number(match?.[2]) };
    });
  const isComplete = points.every((point) => Object.values(point).every((value) => Number.isFinite(value)));
  if (points.length === 0 || !isComplete) throw new Error(`no results of "${column}" for "${workload}"`);
  return points.sort((a, b) => a.load - b.load);
}

const text = (x: number, y: number, content: string, anchor = 'middle', color = INK): string =>
  `<text x="${x}" y="${y}" text-anchor="${anchor}" fill="${color}">${content}</text>`;

function panel(markdown: string, { workload, title }: (typeof PANELS)[number], left: number): string[] {
  const { top, height, width } = PANEL;
  const x = (load: number): number => Math.round(left + (width * load) / MAX_LOAD);
  const y = (percent: number): number => Math.round((top + height * (1 - percent / 100)) * 10) / 10;
  const grid = [0, 25, 50, 75, 100].flatMap((percent) => [
    `<path d="M${left} ${y(percent)}H${left + width}" stroke="${INK}" stroke-opacity=".35"/>`,
    text(left - 8, y(percent) + 4, `${percent}%`, 'end'),
  ]);
  const loads = [0, 0.5, 1, 1.5, 2].map((load) => text(x(load), top + height + 18, String(load)));
  const lines = SIDES.flatMap(({ column, color, dash }) => {
    const points = pointsOf(markdown, workload, column);
    const path = points
      .map(({ load, percent }, index) => `${index === 0 ? 'M' : 'L'}${x(load)} ${y(percent)}`)
      .join('');
    return [
      `<path d="${path}" fill="none" stroke="${color}" stroke-width="2.5" stroke-dasharray="${dash}"/>`,
      ...points.map(
        ({ load, percent, quality }) =>
          `<circle cx="${x(load)}" cy="${y(percent)}" r="4" fill="${color}">` +
          `<title>${column}, load ${load}: ${percent}%, quality ${quality}</title></circle>`,
      ),
    ];
  });
  return [text(left + width / 2, top - 14, title), ...grid, ...loads, ...lines];
}

/** Lowest and highest quality of a side in all panels. */
function qualityOf(markdown: string, column: string): string {
  const all = PANELS.flatMap(({ workload }) => pointsOf(markdown, workload, column).map(({ quality }) => quality));
  const [least, most] = [Math.min(...all), Math.max(...all)].map((quality) => quality.toFixed(3).slice(1));
  return least === most ? `quality ${least}` : `quality ${least} to ${most}`;
}

function legend(markdown: string): string[] {
  return SIDES.flatMap(({ column, label, color, dash }, index) => {
    const left = 56 + (index % 2) * 420;
    const y = 350 + Math.floor(index / 2) * 26;
    return [
      `<path d="M${left} ${y}h44" stroke="${color}" stroke-width="2.5" stroke-dasharray="${dash}"/>`,
      text(left + 54, y + 4, `${label}, ${qualityOf(markdown, column)}`, 'start'),
    ];
  });
}

/**
 * @param markdown the text of docs/router.md
 * @returns an SVG: share of requests in budget against load, for Poisson arrivals and for bursts
 * @throws Error if the results table has another form
 */
export function attainmentPlot(markdown: string): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}"` +
      ' font-family="sans-serif" font-size="13">',
    '<title>Share of requests inside their latency budget against load</title>',
    ...PANELS.flatMap((which, index) => panel(markdown, which, PANEL.left[index] ?? 0)),
    text(WIDTH / 2, 318, 'load, multiples of what full depth completes'),
    ...legend(markdown),
    '</svg>',
    '',
  ].join('\n');
}
