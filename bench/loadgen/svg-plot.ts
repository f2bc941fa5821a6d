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

/** Series on one y axis. */
export interface Side {
  readonly y: string;
  /** Bounds of the y axis if they are known, such as 0 to 1 for a share; a null maximum fits the points. */
  readonly yRange?: readonly [min: number, max: number | null];
  readonly series: readonly Series[];
}

export interface Plot extends Side {
  readonly title: string;
  readonly x: string;
  /** Series in another unit, dashed, on an axis at the right. */
  readonly right?: Side;
}

/** Draws series as lines with dots; a series of one point is a dot. */
export function svgOf({ title, x, right, ...left }: Plot): string {
  const sides = right === undefined ? [left] : [left, right];
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width: 860, height: 520 });
  const axis = { type: 'value', nameLocation: 'middle', nameGap: 36, scale: true } as const;
  chart.setOption({
    animation: false,
    backgroundColor: '#ffffff',
    title: { text: title, left: 'center', top: 8, textStyle: { fontSize: 15 } },
    legend: { bottom: 4 },
    grid: { left: 76, right: right === undefined ? 28 : 76, top: 52, bottom: 84 },
    xAxis: { ...axis, name: x },
    yAxis: sides.map(({ y, yRange }, side) => ({
      ...axis,
      name: y,
      nameGap: 48,
      ...(yRange === undefined ? {} : { min: yRange[0], ...(yRange[1] === null ? {} : { max: yRange[1] }) }),
      ...(side === 0 ? {} : { splitLine: { show: false } }),
    })),
    series: sides.flatMap(({ series }, side) =>
      series.map(({ name, points }) => ({
        type: points.length === 1 ? ('scatter' as const) : ('line' as const),
        name,
        yAxisIndex: side,
        data: points.map((point) => [...point]),
        symbolSize: 8,
        ...(side === 0 ? {} : { lineStyle: { type: 'dashed' as const } }),
      })),
    ),
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return svg;
}
