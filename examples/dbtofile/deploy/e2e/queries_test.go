package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/deploy/internal/deploytest"
)

// shown is a query of the dashboard, with its variables still in it.
type shown struct {
	where, expr string
	instant     bool
}

// file is what of the dashboard's JSON is of interest here: as Grafana reads it,
// not as the program that made it had it.
type file struct {
	Panels     []panel
	Templating struct {
		List []struct{ Name, Type, Query string }
	}
	Annotations struct {
		List []struct {
			Name   string
			Target struct{ Expr string }
		}
	}
}

type panel struct {
	Title   string
	Targets []struct {
		Expr    string
		Instant bool
	}
	Panels []panel // of a collapsed row
}

func dashboard(t *testing.T) (f file, queries []shown) {
	require.NoError(t, json.Unmarshal([]byte(deploytest.Read(t, "grafana", "dashboard.json")), &f))
	for _, p := range f.Panels {
		for _, p := range append(p.Panels, p) {
			for _, target := range p.Targets {
				queries = append(queries, shown{"panel " + p.Title, target.Expr, target.Instant})
			}
		}
	}
	for _, a := range f.Annotations.List {
		queries = append(queries, shown{"annotation " + a.Name, a.Target.Expr, false})
	}
	return f, queries
}

// label is the query of a variable: the values that a label has in some series.
var label = regexp.MustCompile(`^label_values\((.*), *(\w+)\)$`)

// variables gives each variable all of its values, as the choice All does in
// Grafana, and returns what replaces them in a query.
func variables(ctx context.Context, t *testing.T, prom deploytest.Prometheus, f file) *strings.Replacer {
	// Grafana makes the greater of four scrapes and a step and a scrape of it.
	pairs := []string{"$__rate_interval", (4 * scrape).String()}
	for _, v := range f.Templating.List {
		if v.Type != "query" {
			continue
		}
		q := label.FindStringSubmatch(strings.NewReplacer(pairs...).Replace(v.Query))
		require.Len(t, q, 3, "variable %s: %s", v.Name, v.Query)
		values, err := prom.LabelValues(ctx, q[1], q[2])
		require.NoError(t, err)
		require.NotEmpty(t, values, "variable %s: %s", v.Name, q[0])
		for i, value := range values { // Grafana quotes for the regular expression, and that for the string
			values[i] = strings.ReplaceAll(regexp.QuoteMeta(value), `\`, `\\`)
		}
		pairs = append(pairs, "$"+v.Name, "("+strings.Join(values, "|")+")")
	}
	return strings.NewReplacer(pairs...)
}

// shows returns an error if a query of the dashboard has nothing to show.
func shows(ctx context.Context, prom deploytest.Prometheus, q shown, variables *strings.Replacer) error {
	expr := variables.Replace(q.expr)
	var series []deploytest.Series
	var err error
	if strings.Contains(expr, "$") {
		return fmt.Errorf("%s has a variable that is not defined: %s", q.where, expr)
	}
	if q.instant {
		series, err = prom.Query(ctx, expr)
	} else {
		series, err = prom.Range(ctx, expr, 10*time.Second, scrape)
	}
	for _, s := range series {
		if s.Numbers() > 0 {
			return err
		}
	}
	return fmt.Errorf("%s shows nothing: %s: %d series without a number, %w", q.where, expr, len(series), err)
}

// canFire returns an error if an alert could never fire: if a selector in it has
// no series, or if the labels on both sides of an operator never match.
func canFire(ctx context.Context, prom deploytest.Prometheus, expr string) error {
	for _, s := range deploytest.Selectors(expr) {
		if series, err := prom.Query(ctx, "last_over_time("+s+"[5m])"); err != nil || len(series) == 0 {
			return fmt.Errorf("nothing is selected by %s: %w", s, err)
		}
	}
	if series, err := prom.Query(ctx, deploytest.Open(expr)); err != nil || len(series) == 0 {
		return fmt.Errorf("without its conditions it has no series: %s: %w", deploytest.Open(expr), err)
	}
	return nil
}

// queries checks every query of the dashboard and of the rules.
func (w *world) queries(ctx context.Context) {
	t := w.t
	f, panels := dashboard(t)
	require.Greater(t, len(panels), 40)
	values := variables(ctx, t, w.prom, f)
	for _, q := range panels {
		deploytest.Eventually(t, q.where, func() error { return shows(ctx, w.prom, q, values) })
	}
	alerts := deploytest.Alerts(t, w.rules)
	require.Len(t, alerts, 19)
	for _, a := range alerts {
		deploytest.Eventually(t, a.Name, func() error { return canFire(ctx, w.prom, a.Expr) })
	}
	t.Logf("%d queries of the dashboard have data, and the expressions of %d alerts", len(panels), len(alerts))

	// What must not pass: names, labels and matches that can never be.
	for _, expr := range []string{
		`devotion_no_such_metric > 5`,
		`up == 0 or devotion_lag_second > 900`,
		`devotion_interval_seconds{job="dbtofil"} > 5`,
		`devotion_state{state="sleeping"} == 1`,
		`rate(devotion_errors_total{stage="saves"}[5m]) > 1 unless up`,
		`devotion_interval_seconds > 5 unless devotion_state`,
		`devotion_last_success_timestamp_seconds > process_start_time_seconds`,
	} {
		assert.Error(t, canFire(ctx, w.prom, expr), expr)
	}
	for _, expr := range []string{`devotion_no_such_metric{job=~"$job"}`, `up{job=~"$jobs"}`, `up{instance!~"$instance"} > 1`, `histogram_quantile(0.5, up)`} {
		assert.Error(t, shows(ctx, w.prom, shown{"none", expr, true}, values), expr)
	}
}
