/** Nets by result and trigger, and the time that they ran. */
import t from 'tap';
import { NetMetrics } from '../../src/gateway/telemetry/net-metrics.js';
import { createSeries } from '../../src/gateway/telemetry/series.js';

void t.test('nets are counted, and those that ran have a time', async (t) => {
  const series = createSeries('m');
  const metrics = new NetMetrics(series);
  const net = { upstream: 'big', leadMs: null, ranMs: null, trigger: null };
  metrics.ended({ ...net, result: 'unused' });
  metrics.ended({ ...net, result: 'answered', trigger: 'latest_start', leadMs: 2000, ranMs: 1500 });
  metrics.ended({ ...net, result: 'answered', trigger: 'status', ranMs: 500 });
  const text = await series.registry.metrics();
  for (const line of [
    'sortie_nets_total{upstream="big",result="unused",trigger="none",model_name="m"} 1',
    'sortie_nets_total{upstream="big",result="answered",trigger="latest_start",model_name="m"} 1',
    'sortie_net_seconds_total{upstream="big",result="answered",model_name="m"} 2',
  ])
    t.ok(text.includes(line), line);
  t.match(text, /sortie_net_lead_seconds_sum\{[^}]*\} 2\n/);
  t.notMatch(text, /net_seconds_total\{[^}]*unused/);
});
