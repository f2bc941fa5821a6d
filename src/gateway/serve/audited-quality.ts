/** Wires audits to the estimates of quality: evidence, cache folder and metrics. */
import { createHash } from 'node:crypto';
import type { ServedModel } from '../api/served-model.js';
import type { ServeOptions } from '../../cli/options/config.js';
import type { Engine } from '../engine-client/engine.js';
import type { Manifest } from '../../engine/model/manifest.js';
import { ExitQuality, type PriorExit } from '../quality/exit-quality.js';
import { GateMeans } from '../quality/gate-means.js';
import { qualityStore } from '../quality/quality-store.js';
import type { Logger } from '../telemetry/log.js';
import type { Series } from '../telemetry/series.js';

/** Published right answers stand in for an agreement that was not measured. */
const priorOf = ({ layer, quality: { agreement, right } }: ServedModel['exits'][number]): PriorExit => ({
  layer,
  agreement: agreement ?? right,
});

/** The estimates of quality, which audits change and the cache folder keeps. */
export function auditedQuality(parts: {
  readonly engine: Engine;
  readonly model: ServedModel;
  readonly manifest: Manifest;
  readonly series: Series;
  readonly options: ServeOptions;
  readonly log: Logger;
}): { readonly quality: ExitQuality; readonly gates: GateMeans; readonly close: () => void } {
  const { engine, model, manifest, series, options, log } = parts;
  const priors = model.exits.map(priorOf);
  /** Estimates of a looped model's gate. A measured model has no need of them. */
  const gated = new ExitQuality(priors.map(({ layer }) => ({ layer })));
  const quality = new ExitQuality(priors, gated);
  const digest = createHash('sha256').update(JSON.stringify(manifest)).digest('hex');
  const store = qualityStore(options.cacheDir, digest, quality, (reason) => {
    log.warn({ reason }, 'the cache of audited quality is unusable');
  });
  const gates = new GateMeans();
  const show = (): void => {
    for (const { layer, prior, estimate } of quality.rows(null)) {
      series.exitQuality.set({ exit_layer: String(layer), source: 'model' }, prior);
      series.exitQuality.set({ exit_layer: String(layer), source: 'estimate' }, estimate);
    }
  };
  if (options.audit !== 'off') quality.restore(store.read()?.cells ?? []);
  show();
  engine.on('audit', ({ audits }) => {
    for (const { probe, lengthGroup, gate, tokens } of audits) {
      if (gate !== undefined) {
        gates.observe(gate);
        const counted = probe?.tokens ?? tokens.length;
        for (const [i, { layer }] of priors.entries())
          gated.observe(lengthGroup, layer, (gate[i] ?? NaN) * counted, counted);
      }
      if (probe === null) continue;
      quality.observe(lengthGroup, probe.exit, probe.agreeing, probe.tokens);
      store.changed();
    }
    show();
  });
  return {
    quality,
    gates,
    close: () => {
      store.close();
    },
  };
}
