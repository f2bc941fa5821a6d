/** The load view: reads /metrics every second while it is open, and draws depth, requests in flight and attainment. */
import { loadMetrics } from './api.js';
import { openBurst } from './burst.js';
import { drawCharts, loadCharts } from './charts.js';
import { $, showError } from './dom.js';
import { attainmentBetween, landedBetween, meanDepth, readLoad, tokensBetween } from './metrics.js';

const PERIOD_MS = 1000;
const WINDOW_S = 60;
/** Readings over which attainment is measured. */
const ATTAINMENT_READINGS = 10;

export function openLoad() {
  let exits = [];
  let charts = null;
  let timer = null;
  let open = false;
  let readings = [];
  /** The reading at the start of the last burst, or the first one. */
  let since = null;

  const points = () =>
    readings.slice(1).map((reading, index) => {
      const earlier = readings[index];
      const seconds = (reading.at - earlier.at) / 1000;
      const tokens = tokensBetween(earlier, reading);
      const kept = attainmentBetween(readings[Math.max(0, index + 1 - ATTAINMENT_READINGS)], reading);
      const speeds = Object.fromEntries(Object.entries(tokens).map(([layer, count]) => [layer, count / seconds]));
      return { running: reading.running, waiting: reading.waiting, tokens, speeds, kept };
    });

  const showTiles = (list) => {
    const last = list.at(-1);
    if (last === undefined) return;
    const speed = Object.values(last.speeds).reduce((sum, each) => sum + each, 0);
    const depth = meanDepth(last.tokens);
    const kept = attainmentBetween(since, readings.at(-1));
    const landed = landedBetween(since, readings.at(-1));
    $('tile-running').textContent = String(last.running);
    $('tile-waiting').textContent = String(last.waiting);
    $('tile-speed').textContent = String(Math.round(speed));
    $('tile-depth').textContent = depth === null ? '–' : depth.toFixed(1);
    $('tile-kept').textContent = kept === null ? '–' : `${Math.round(kept * 100)}%`;
    $('tile-landed').textContent = landed === null ? '–' : `${Math.round(landed * 100)}%`;
  };

  const draw = () => {
    const list = points();
    showTiles(list);
    if (charts !== null) drawCharts(charts, { points: list, exits, window: WINDOW_S });
  };

  const read = async () => {
    try {
      const text = await loadMetrics();
      $('metrics-note').hidden = text !== null;
      $('live').hidden = text === null;
      if (text === null) return;
      const reading = { at: performance.now(), ...readLoad(text) };
      since ??= reading;
      readings = [...readings, reading].slice(-WINDOW_S - 1);
      charts ??= await loadCharts();
      draw();
    } catch (error) {
      showError(`The load cannot be read: ${error.message}`);
    }
    if (open) timer = setTimeout(() => void read(), PERIOD_MS);
  };

  const burst = openBurst({
    onSend() {
      since = readings.at(-1) ?? null;
    },
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);

  return {
    show(server) {
      exits = server.exits.map(({ layer }) => layer);
      burst.show(server);
    },
    /** Readings go on only while the view is open. A gap would look like an average. */
    setOpen(isOpen) {
      if (isOpen === open) return;
      open = isOpen;
      clearTimeout(timer);
      if (!open) return;
      readings = [];
      void read();
    },
  };
}
