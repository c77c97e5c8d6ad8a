// Draws dashboard.json with the components that Grafana publishes, over a Prometheus below /api/, all rows open. Then it
// posts what each panel shows. /config.json has the values of the variables, the time range and the scrape interval.
import React from 'react';
import { createRoot } from 'react-dom/client';
import { lastValueFrom } from 'rxjs';
import { cacheFieldDisplayNames, createTheme, dateTime, FieldType, getDisplayProcessor, getFieldDisplayName, reduceField, standardTransformers,
  standardTransformersRegistry, ThemeContext, transformDataFrame } from '@grafana/data';
import { BigValue, GlobalStyles, PanelChrome, TimeSeries } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';

const json = async (url: string) => (await fetch(url)).json();
const [dashboard, { vars, from, to, scrape, width }] = await Promise.all([json('/dashboard.json'), json('/config.json')]);
const theme = createTheme({ colors: { mode: 'dark' } });
const timeRange: any = { from: dateTime(from * 1000), to: dateTime(to * 1000), raw: { from: dateTime(from * 1000), to: dateTime(to * 1000) } };
const transformers = new Map(Object.values(standardTransformers).map((t: any) => [t.id, { ...t, transformation: async () => t, imageDark: '', imageLight: '' }]));
standardTransformersRegistry.setInit(() => [...transformers.values()]);

// query returns the frames that Grafana's data source makes of a target.
async function query(target: any, pixels: number) {
  const step = Math.max(scrape, Math.ceil((to - from) / pixels)), start = Math.floor(from / step) * step;
  let expr = target.expr.replaceAll('$__rate_interval', Math.max(step + scrape, 4 * scrape) + 's');
  for (const name in vars) expr = expr.replaceAll('$' + name, vars[name]);
  const path = target.instant ? `query?time=${to}` : `query_range?start=${start}&end=${to}&step=${step}`;
  const answer = await json(`/api/v1/${path}&query=${encodeURIComponent(expr)}`);
  if (answer.status !== 'success') throw new Error(`${target.expr}: ${answer.error}`);
  const series = answer.data.result.map((s: any) => ({ labels: s.metric, points: new Map((s.values ?? [s.value]).map((p: any) => [Math.round(p[0]), +p[1]])) }));
  if (target.format === 'table') {
    const labels = [...new Set(series.flatMap((s: any) => Object.keys(s.labels)))] as string[];
    const fields: any[] = [{ name: 'Time', type: FieldType.time, config: {}, values: series.map(() => to * 1000) }];
    for (const l of labels) fields.push({ name: l, type: FieldType.string, config: {}, values: series.map((s: any) => s.labels[l]) });
    fields.push({ name: 'Value #' + target.refId, type: FieldType.number, config: {}, values: series.map((s: any) => [...s.points.values()][0]) });
    return [{ refId: target.refId, fields, length: series.length }];
  }
  const times = target.instant ? [Math.round(to)] : Array.from({ length: Math.floor((to - start) / step) + 1 }, (_, i) => start + i * step);
  return series.map((s: any, i: number) => ({
    refId: target.refId, length: times.length, fields: [
      { name: 'Time', type: FieldType.time, config: {}, values: times.map((x) => x * 1000) },
      { name: 'Value', type: FieldType.number, labels: s.labels, state: { seriesIndex: i }, values: times.map((x) => (Number.isFinite(s.points.get(x)) ? s.points.get(x) : null)),
        config: { displayNameFromDS: target.legendFormat.replace(/\{\{(\w+)\}\}/g, (_: string, l: string) => s.labels[l] ?? '') } },
    ],
  }));
}

// configure gives each field the panel's configuration, with the overrides for its name.
function configure(panel: any, frames: any[]) {
  for (const frame of frames) for (const field of frame.fields) {
    const name = getFieldDisplayName(field, frame, frames);
    const config = { ...panel.fieldConfig.defaults, ...field.config, custom: { ...panel.fieldConfig.defaults.custom } };
    for (const o of panel.fieldConfig.overrides.filter((o: any) => o.matcher.options === name)) for (const { id, value } of o.properties)
      id.startsWith('custom.') ? (config.custom[id.slice(7)] = value) : (config[id] = value);
    if (config.thresholds) config.thresholds = { ...config.thresholds, steps: config.thresholds.steps.map((s: any) => ({ ...s, value: s.value ?? -Infinity })) };
    field.config = config;
    field.display = getDisplayProcessor({ field, theme });
  }
  cacheFieldDisplayNames(frames);
  return frames;
}

function Content({ panel, frames, width, height }: any) {
  const options = { ...panel.options }, empty = !frames.some((f: any) => f.length);
  if (empty) return <div>{panel.fieldConfig.defaults.noValue ?? 'No data'}</div>;
  if (panel.type === 'timeseries') return <TimeSeries frames={frames} timeRange={timeRange} timeZone="utc" width={width} height={height} structureRev={1} legend={options.legend} options={options} />;
  if (panel.type === 'table') return <TableNG data={frames[0]} width={width} height={height} {...options} enableVirtualization={false} structureRev={1} />;
  if (panel.type !== 'stat') throw new Error('a panel of type ' + panel.type);
  const field = frames[0].fields[1], calc = options.reduceOptions.calcs[0];
  return <BigValue {...options} value={field.display(reduceField({ field, reducers: [calc] })[calc])} width={width} height={height} theme={theme} />;
}

const unit = 38, gap = 8, column = width / 24; // of Grafana's grid
function Panel({ panel, frames }: any) {
  const g = panel.gridPos, w = g.w * column - gap, h = g.h * unit - gap;
  return <div data-title={panel.title} style={{ position: 'absolute', left: g.x * column, top: g.y * unit, width: w, height: h }}>
    <PanelChrome title={panel.title} width={w} height={h}>{(w: number, h: number) =>
      frames instanceof Error ? <pre>{String(frames)}</pre> : <Content panel={panel} frames={frames} width={w} height={h} />}</PanelChrome>
  </div>;
}

// A row pushes down the rows below it when it opens.
const panels: any[] = [];
let shift = 0, bottom = 0;
for (const p of dashboard.panels) {
  for (const c of [p, ...(p.panels ?? [])]) {
    const placed = { ...c, gridPos: { ...c.gridPos, y: c.gridPos.y + shift } };
    panels.push(placed);
    bottom = Math.max(bottom, placed.gridPos.y + placed.gridPos.h);
  }
  if (p.panels) shift = bottom - p.gridPos.y - 1;
}
const drawn = await Promise.all(panels.map(async (panel) => {
  if (panel.type === 'row') return <div key={panel.id} style={{ position: 'absolute', top: panel.gridPos.y * unit + 6, fontSize: 16 }}>▾ {panel.title}</div>;
  const frames = await Promise.all(panel.targets.map((t: any) => query(t, panel.gridPos.w * column)))
    .then((f) => lastValueFrom(transformDataFrame(panel.transformations ?? [], f.flat()))).then((f) => configure(panel, f)).catch((e) => e);
  return <Panel key={panel.id} panel={panel} frames={frames} />;
}));
createRoot(document.getElementById('root')!).render(<ThemeContext.Provider value={theme}><GlobalStyles isExtensionSidebarOpen={false} />
  <div style={{ position: 'relative', width, height: bottom * unit, margin: gap }}>{drawn}</div></ThemeContext.Provider>);
await new Promise((resolve) => setTimeout(resolve, 3000));
const shown = [...document.querySelectorAll<HTMLElement>('[data-title]')].map((e) => ({ title: e.dataset.title, canvas: !!e.querySelector('canvas'), text: e.innerText, error: e.querySelector('pre')?.innerText }));
await fetch('/drawn', { method: 'POST', body: JSON.stringify(shown) });
