package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/deploy/internal/deploytest"
)

func TestTheFileIsWhatThisPrints(t *testing.T) {
	want, err := render()
	require.NoError(t, err)
	if deploytest.Read(t, "grafana", "dashboard.json") != string(want) {
		t.Error("grafana/dashboard.json is another one; make it anew, from the root of the repository:\n" +
			"go run ./examples/dbtofile/deploy/dashboard >examples/dbtofile/deploy/grafana/dashboard.json")
	}
}

// parse reads the file as Grafana's own types have it: no field may be unknown,
// none that is required may be missing, and nothing gets lost on the way.
func parse(t *testing.T) (d board) {
	plugins.RegisterDefaultPlugins()
	text := []byte(deploytest.Read(t, "grafana", "dashboard.json"))
	var strictly board
	faultless(t, strictly.UnmarshalJSONStrict(text))
	var raw struct {
		Panels []json.RawMessage
	}
	require.NoError(t, json.Unmarshal(text, &raw))
	for _, text := range raw.Panels {
		var panel dashboard.Panel
		var row dashboard.RowPanel
		if bytes.Contains(text, []byte(`"type": "row"`)) {
			faultless(t, row.UnmarshalJSONStrict(text))
		} else {
			faultless(t, panel.UnmarshalJSONStrict(text))
		}
	}

	require.NoError(t, json.Unmarshal(text, &d))
	require.NoError(t, d.Validate())
	again, err := json.Marshal(d)
	require.NoError(t, err)
	require.JSONEq(t, string(text), string(again))
	return d
}

// faultless takes an error that lists faults: one without any is none. (The types
// return such a list where they should return nil, and then leave out the panels,
// which is why these are read one by one.)
func faultless(t *testing.T, err error) {
	t.Helper()
	var faults cog.BuildErrors
	if !errors.As(err, &faults) {
		require.NoError(t, err)
	}
	require.Empty(t, faults, "%v", err)
}

// panels are all of them, those within collapsed rows included.
func panels(d board) (all []dashboard.Panel) {
	for _, p := range d.Panels {
		if p.Panel != nil {
			all = append(all, *p.Panel)
		} else {
			all = append(all, p.RowPanel.Panels...)
		}
	}
	return all
}

func TestGrafanaCanReadIt(t *testing.T) {
	d := parse(t)
	ids := map[uint32]bool{}
	for _, p := range panels(d) {
		title := *p.Title
		require.NotNil(t, p.Id, title)
		assert.False(t, ids[*p.Id], "%s: the number %d is taken", title, *p.Id)
		ids[*p.Id] = true
		assert.NotEmpty(t, p.Targets, title)
		assert.NotEmpty(t, *p.Description, title)
		assert.Equal(t, "${datasource}", *p.Datasource.Uid, title)
		assert.NotEmpty(t, p.Links, title)
		var refs []string
		for _, target := range p.Targets {
			text, err := json.Marshal(target)
			require.NoError(t, err)
			var q struct{ RefId, Expr string }
			require.NoError(t, json.Unmarshal(text, &q))
			assert.NotEmpty(t, q.Expr, title)
			assert.NotContains(t, refs, q.RefId, title)
			refs = append(refs, q.RefId)
		}
	}
	for _, p := range d.Panels {
		if p.RowPanel != nil {
			assert.False(t, ids[p.RowPanel.Id], "%s: the number %d is taken", *p.RowPanel.Title, p.RowPanel.Id)
			ids[p.RowPanel.Id] = true
			assert.Equal(t, p.RowPanel.Collapsed, len(p.RowPanel.Panels) > 0, "%s: only a collapsed row holds its panels", *p.RowPanel.Title)
		}
	}
}

// On the grid of 24 columns no two panels overlap, and no line has a gap.
func TestTheGridIsFull(t *testing.T) {
	taken := map[[2]uint32]string{}
	var lines uint32
	place := func(title string, g dashboard.GridPos) {
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				assert.Less(t, x, uint32(24), title)
				assert.Empty(t, taken[[2]uint32{x, y}], "%s overlaps", title)
				taken[[2]uint32{x, y}] = title
				lines = max(lines, y+1)
			}
		}
	}
	// A collapsed row takes one line; what is in it is placed below when it is opened.
	for _, p := range parse(t).Panels {
		if p.Panel != nil {
			place(*p.Panel.Title, *p.Panel.GridPos)
			continue
		}
		place(*p.RowPanel.Title, *p.RowPanel.GridPos)
		for _, inside := range p.RowPanel.Panels {
			place(*inside.Title, *inside.GridPos)
		}
	}
	for y := range lines {
		for x := range uint32(24) {
			if taken[[2]uint32{x, y}] == "" {
				t.Errorf("nothing is at column %d of line %d, beside %q", x, y, taken[[2]uint32{0, y}])
				break
			}
		}
	}
}

// The red of a panel begins where its alert does, and its link leads to what the
// runbook says of that.
func TestLimitsAreThoseOfTheAlerts(t *testing.T) {
	alerts := deploytest.Alerts(t, deploytest.Read(t, "prometheus", "alerts.yml"))
	expr := func(name string) string {
		i := slices.IndexFunc(alerts, func(a deploytest.Alert) bool { return a.Name == name })
		require.GreaterOrEqual(t, i, 0, "no alert is called %s", name)
		return alerts[i].Expr
	}
	compared := map[string]bool{}
	for _, r := range layout() {
		for _, p := range r.panels {
			if p.alert == "" {
				continue
			}
			text := expr(p.alert)
			limit := p.limit
			switch {
			case p.alert == "PipelineRetryStorm":
				limit *= 300
			case p.alert == "UpdateRolledBack", limit == 0: // counts, of which one is enough
				continue
			}
			assert.Contains(t, strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" ,()\n", r) }),
				strconv.FormatFloat(limit, 'f', -1, 64), "%s of %s", p.title, p.alert)
			compared[p.alert] = true
		}
	}
	assert.Len(t, compared, 9, "%v", compared)

	readme := deploytest.Read(t, "README.md")
	for _, p := range panels(parse(t)) {
		for _, l := range p.Links {
			anchor, found := strings.CutPrefix(*l.Url, readmeURL+"#")
			require.True(t, found, *l.Url)
			assert.True(t, regexp.MustCompile(`(?im)^##+ `+anchor+`$`).MatchString(readme), "the README has no section %s", anchor)
		}
	}
}
