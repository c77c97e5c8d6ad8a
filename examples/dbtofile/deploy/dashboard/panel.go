package main

import (
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// readmeURL is the page with the runbook.
const readmeURL = "https://github.com/artifactofdevotion/devotion/blob/main/examples/dbtofile/deploy/README.md"

// kind is how a panel draws.
type kind int

const (
	graph    kind = iota // lines over time
	number               // the present value, large
	name                 // the same, of the series' name
	timeline             // bars of one colour a state
)

type panel struct {
	kind          kind
	title, about  string
	unit          string
	width, height uint32
	queries       []query
	alert         string  // the alert that looks at the same, if there is one
	limit         float64 // where that fires; 0: the panel shows none
	below         bool    // it fires below the limit
	max           float64 // of the axis; 0: as the data has it
	states        bool    // the values are states, see states
}

// query is an expression and the name of its series.
type query struct{ expr, legend string }

// states are the values of the expression stateOf, in words and colours.
var states = map[string]dashboard.ValueMappingResult{
	"0": result("stopped", "text", 0),
	"1": result("up to date", "green", 1),
	"2": result("copying", "blue", 2),
	"3": result("held back", "orange", 3),
	"4": result("failing", "red", 4),
	"5": result("stuck", "dark-red", 5),
}

func result(text, color string, index int32) dashboard.ValueMappingResult {
	return dashboard.ValueMappingResult{Text: &text, Color: &color, Index: &index}
}

// shared is what the builders of all kinds of panels can do.
type shared[B any] interface {
	cog.Builder[dashboard.Panel]
	Id(uint32) B
	Title(string) B
	Description(string) B
	Datasource(common.DataSourceRef) B
	Height(uint32) B
	Span(uint32) B
	Unit(string) B
	Targets([]cog.Builder[variants.Dataquery]) B
	Links([]cog.Builder[dashboard.DashboardLink]) B
	DataLinks([]cog.Builder[dashboard.DashboardLink]) B
	Thresholds(cog.Builder[dashboard.ThresholdsConfig]) B
	Mappings([]dashboard.ValueMapping) B
	NoValue(string) B
}

func (p panel) build(id uint32) cog.Builder[dashboard.Panel] {
	switch p.kind {
	case number, name:
		b := stat.NewPanelBuilder().
			ColorMode(common.BigValueColorModeBackground).
			GraphMode(common.BigValueGraphModeArea).
			JustifyMode(common.BigValueJustifyModeAuto).
			Orientation(common.VizOrientationAuto).
			ReduceOptions(common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"}))
		if p.kind == name {
			b.TextMode(common.BigValueTextModeName).GraphMode(common.BigValueGraphModeNone)
		}
		return dress(p, id, b)
	case timeline:
		b := statetimeline.NewPanelBuilder().
			ShowValue(common.VisibilityModeNever).
			MergeValues(true).
			FillOpacity(80).
			RowHeight(0.8).
			Legend(common.NewVizLegendOptionsBuilder().ShowLegend(true).DisplayMode(common.LegendDisplayModeList).Placement(common.LegendPlacementBottom))
		return dress(p, id, b)
	}
	b := timeseries.NewPanelBuilder().
		Min(0).
		LineWidth(1).
		FillOpacity(10).
		ShowPoints(common.VisibilityModeNever).
		Legend(common.NewVizLegendOptionsBuilder().ShowLegend(true).DisplayMode(common.LegendDisplayModeTable).
			Placement(common.LegendPlacementBottom).Calcs([]string{"lastNotNull", "max"})).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending))
	if p.max > 0 {
		b.Max(p.max)
	}
	if p.limit > 0 {
		b.ThresholdsStyle(common.NewGraphThresholdsStyleConfigBuilder().Mode(common.GraphThresholdsStyleModeDashed))
	}
	return dress(p, id, b)
}

// dress gives a builder what all panels have.
func dress[B shared[B]](p panel, id uint32, b B) B {
	about, runbook := p.about, link("Runbook", readmeURL+"#runbook")
	if p.alert != "" {
		about += " Alert: " + p.alert + "."
		runbook = link("Runbook: "+p.alert, readmeURL+"#"+strings.ToLower(p.alert))
	}
	b.Id(id).Title(p.title).Description(about).Unit(p.unit).
		Datasource(source).Height(p.height).Span(p.width).
		Targets(p.targets()).
		Thresholds(p.thresholds()).
		NoValue("no data").
		Links([]cog.Builder[dashboard.DashboardLink]{runbook})
	if p.states {
		b.Mappings([]dashboard.ValueMapping{{ValueMap: &dashboard.ValueMap{Type: dashboard.MappingTypeValueToText, Options: states}}})
		b.DataLinks([]cog.Builder[dashboard.DashboardLink]{link("Status page", "http://${__field.labels.instance}/")})
	}
	return b
}

func link(title, url string) *dashboard.DashboardLinkBuilder {
	return dashboard.NewDashboardLinkBuilder(title).Type(dashboard.DashboardLinkTypeLink).Url(url).TargetBlank(true)
}

// thresholds colour a number, and draw the line of a graph.
func (p panel) thresholds() *dashboard.ThresholdsConfigBuilder {
	steps := []dashboard.Threshold{{Color: "green"}, {Color: "red", Value: &p.limit}}
	switch {
	case p.kind == name || p.limit == 0 && p.kind == number:
		steps = []dashboard.Threshold{{Color: "blue"}}
	case p.limit == 0:
		steps = steps[:1]
	case p.below:
		steps[0].Color, steps[1].Color = "red", "green"
	}
	return dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).Steps(steps)
}

func (p panel) targets() (targets []cog.Builder[variants.Dataquery]) {
	for i, q := range p.queries {
		t := prometheus.NewDataqueryBuilder().Expr(q.expr).LegendFormat(q.legend).
			RefId(string(rune('A' + i))).Datasource(source).EditorMode(prometheus.QueryEditorModeCode)
		if p.kind == number || p.kind == name {
			t.Instant()
		} else {
			t.Range()
		}
		targets = append(targets, t)
	}
	return targets
}
