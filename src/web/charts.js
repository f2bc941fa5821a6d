/** The three charts of the load view, drawn on canvases by ECharts, which the server sends itself. */
import { $, element } from './dom.js';

const LIBRARY = 'playground/echarts.js';

/** Loads ECharts once and prepares the charts. The element of a chart must be visible. */
export async function loadCharts() {
  await new Promise((resolve, reject) => {
    const script = element('script', { src: LIBRARY });
    script.addEventListener('load', resolve);
    script.addEventListener('error', () => reject(new Error('the plotting library did not load')));
    document.head.append(script);
  });
  const charts = { depth: 'chart-depth', flight: 'chart-flight', kept: 'chart-kept' };
  const made = Object.entries(charts).map(([name, id]) => {
    const chart = globalThis.echarts.init($(id), null, { renderer: 'canvas' });
    new ResizeObserver(() => chart.resize()).observe($(id));
    return [name, chart];
  });
  return Object.fromEntries(made);
}

const pixel = document.createElement('canvas').getContext('2d', { willReadFrequently: true });

/** A variable of the stylesheet as the RGB colour that ECharts reads. */
function styleColour(variable) {
  const probe = element('span', { class: 'unseen' });
  probe.style.color = `var(${variable})`;
  document.body.append(probe);
  pixel.fillStyle = getComputedStyle(probe).color;
  probe.remove();
  pixel.fillRect(0, 0, 1, 1);
  const [red, green, blue] = pixel.getImageData(0, 0, 1, 1).data;
  return `rgb(${red}, ${green}, ${blue})`;
}

/** The last `window` points, with gaps where no reading exists yet. */
function series(points, window, value) {
  const values = points.slice(-window).map(value);
  return [...Array.from({ length: window - values.length }, () => null), ...values];
}

function axes({ window, ink, line, percent = false }) {
  const labels = Array.from({ length: window }, (_, index) => {
    const ago = window - 1 - index;
    return ago === 0 ? 'now' : `${ago} s ago`;
  });
  const font = { color: ink, fontSize: 11 };
  return {
    animation: false,
    grid: { left: 40, right: 12, top: 12, bottom: 24 },
    xAxis: {
      type: 'category',
      data: labels,
      axisLabel: { ...font, interval: (index) => (window - 1 - index) % 20 === 0 && index !== 0, hideOverlap: true },
      axisTick: { show: false },
      axisLine: { lineStyle: { color: line } },
    },
    yAxis: {
      type: 'value',
      min: 0,
      ...(percent ? { max: 100, interval: 25 } : { minInterval: 1, splitNumber: 3 }),
      axisLabel: { ...font, ...(percent ? { formatter: '{value}%' } : {}) },
      splitLine: { lineStyle: { color: line } },
    },
  };
}

/** @param points one per second: running, waiting, speeds by exit, kept (a share or null) */
export function drawCharts(charts, { points, exits, window }) {
  const ink = styleColour('--muted');
  const line = styleColour('--line');
  const strong = styleColour('--ink');
  const base = { window, ink, line };
  const lineOf = (color, extra) => ({ type: 'line', symbol: 'none', lineStyle: { color, width: 2 }, ...extra });
  charts.depth.setOption({
    ...axes(base),
    series: exits.map((layer) => ({
      type: 'bar',
      stack: 'tokens',
      barCategoryGap: '12%',
      itemStyle: { color: styleColour(`--exit-${layer}`) },
      data: series(points, window, ({ speeds }) => speeds[layer] ?? 0),
    })),
  });
  charts.flight.setOption({
    ...axes(base),
    series: [
      lineOf(strong, {
        step: 'end',
        stack: 'flight',
        areaStyle: { color: strong, opacity: 0.18 },
        data: series(points, window, ({ running }) => running),
      }),
      lineOf(ink, {
        step: 'end',
        stack: 'flight',
        lineStyle: { color: ink, width: 1, type: 'dashed' },
        areaStyle: { color: ink, opacity: 0.1 },
        data: series(points, window, ({ waiting }) => waiting),
      }),
    ],
  });
  charts.kept.setOption({
    ...axes({ ...base, percent: true }),
    series: [
      lineOf(strong, {
        connectNulls: true,
        areaStyle: { color: strong, opacity: 0.08 },
        data: series(points, window, ({ kept }) => (kept === null ? null : kept * 100)),
      }),
    ],
  });
}
