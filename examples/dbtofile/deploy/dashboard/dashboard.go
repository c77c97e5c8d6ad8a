package main

import (
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
)

// source is the data source that is chosen at the top of the dashboard.
var source = common.DataSourceRef{Type: cog.ToPtr("prometheus"), Uid: cog.ToPtr("${datasource}")}

// board is a dashboard as every Grafana since version 8 reads it.
type board = dashboard.Dashboard //nolint:staticcheck // the schema that replaces it is for the newest Grafana alone

func build() (board, error) {
	b := dashboard.NewDashboardBuilder("Devotion pipelines") //nolint:staticcheck // see board
	b.Uid("devotion").
		Description("What pipelines read, write and wait for, what fails, and how old the newest row is.").
		Tags([]string{"devotion", "dbtofile"}).
		Timezone("browser").
		Time("now-6h", "now").
		Refresh("30s").
		Tooltip(dashboard.DashboardCursorSyncCrosshair).
		Link(link("Runbook", readmeURL+"#runbook").Icon("doc").Tooltip("What each alert means, and what to do"))
	for _, v := range variables() {
		b.WithVariable(v)
	}
	for _, a := range annotations() {
		b.Annotation(a)
	}
	var id uint32
	next := func() uint32 { id++; return id }
	for _, r := range layout() {
		if r.title == "" { // the top row needs no title
			for _, p := range r.panels {
				b.WithPanel(p.build(next()))
			}
			continue
		}
		row := dashboard.NewRowBuilder(r.title).Id(next()).Collapsed(r.collapsed)
		if r.collapsed { // Grafana keeps the panels of a collapsed row inside of it
			for _, p := range r.panels {
				row.WithPanel(p.build(next()))
			}
			b.WithRow(row)
			continue
		}
		b.WithRow(row)
		for _, p := range r.panels {
			b.WithPanel(p.build(next()))
		}
	}
	d, err := b.Build()
	for i := range d.Links {
		d.Links[i].Placement = nil // at the top, where it is seen, and not in a menu
	}
	for i := range d.Annotations.List {
		d.Annotations.List[i].Placement = nil
	}
	return d, err
}

// variables are the choices at the top, each within the ones before it.
func variables() []cog.Builder[dashboard.VariableModel] {
	choice := func(name, label, query string) *dashboard.QueryVariableBuilder {
		return dashboard.NewQueryVariableBuilder(name).Label(label).
			Query(dashboard.StringOrMap{String: &query}).Definition(query).
			Datasource(source).
			Refresh(dashboard.VariableRefreshOnTimeRangeChanged).
			Sort(dashboard.VariableSortAlphabeticalAsc).
			Multi(true).IncludeAll(true).
			Current(dashboard.VariableOption{
				Selected: cog.ToPtr(true),
				Text:     dashboard.StringOrArrayOfString{String: cog.ToPtr("All")},
				Value:    dashboard.StringOrArrayOfString{String: cog.ToPtr("$__all")},
			})
	}
	return []cog.Builder[dashboard.VariableModel]{
		dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Type("prometheus"),
		choice("job", "Job", `label_values(devotion_interval_seconds, job)`),
		choice("instance", "Instance", `label_values(devotion_interval_seconds{job=~"$job"}, instance)`),
		choice("pipeline", "Pipeline", `label_values(devotion_interval_seconds{job=~"$job",instance=~"$instance"}, pipeline)`),
		choice("node", "Machine", `label_values(node_time_seconds, instance)`),
	}
}

// annotations mark moments in all graphs. Their values are the moments.
func annotations() []cog.Builder[dashboard.AnnotationQuery] {
	mark := func(name, color, expr, title string) *dashboard.AnnotationQueryBuilder {
		return dashboard.NewAnnotationQueryBuilder().Name(name).Enable(true).IconColor(color).
			Datasource(source).UseValueForTime(true).TitleFormat(title).TextFormat("{{instance}}").
			Target(prometheus.NewDataqueryBuilder().Expr(expr).RefId("Anno").Datasource(source).Range())
	}
	return []cog.Builder[dashboard.AnnotationQuery]{
		mark("Starts", "blue", `process_start_time_seconds`+process+` * 1000`, "started"),
		mark("Deploys", "green", `dbtofile_update_last_deploy_timestamp_seconds`+machine+` * 1000`, "deployed"),
		mark("Rollbacks", "red", `dbtofile_update_last_rollback_timestamp_seconds`+machine+` * 1000`, "rolled back"),
	}
}
