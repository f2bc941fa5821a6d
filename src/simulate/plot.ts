/** Plots as SVG text, without a browser (ECharts on the server). */
import { LineChart, ScatterChart } from 'echarts/charts';
import { GridComponent, LegendComponent, TitleComponent } from 'echarts/components';
import * as echarts from 'echarts/core';
import { SVGRenderer } from 'echarts/renderers';

echarts.use([LineChart, ScatterChart, GridComponent, LegendComponent, TitleComponent, SVGRenderer]);

export interface Series {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}

export interface Plot {
  readonly title: string;
  readonly x: string;
  readonly y: string;
  /** Bounds of the y axis if they are known, such as 0 to 1 for a share. */
  readonly yRange?: readonly [min: number, max: number];
  readonly series: readonly Series[];
}

/** Draws series as lines with dots; a series of one point is a dot. */
export function svgOf({ title, x, y, yRange, series }: Plot): string {
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width: 860, height: 520 });
  const axis = { type: 'value', nameLocation: 'middle', nameGap: 36, scale: true } as const;
  chart.setOption({
    animation: false,
    backgroundColor: '#ffffff',
    title: { text: title, left: 'center', top: 8, textStyle: { fontSize: 15 } },
    legend: { bottom: 4 },
    grid: { left: 76, right: 28, top: 52, bottom: 84 },
    xAxis: { ...axis, name: x },
    yAxis: { ...axis, name: y, nameGap: 48, ...(yRange === undefined ? {} : { min: yRange[0], max: yRange[1] }) },
    series: series.map(({ name, points }) => ({
      type: points.length === 1 ? 'scatter' : 'line',
      name,
      data: points.map((point) => [...point]),
      symbolSize: 8,
    })),
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return svg;
}
