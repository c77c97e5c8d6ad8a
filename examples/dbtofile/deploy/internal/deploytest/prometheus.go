package deploytest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"time"
)

// Prometheus is the address of a server, such as http://127.0.0.1:9090.
type Prometheus string

// Series is what a query returned for one set of labels, as text.
type Series struct {
	Metric map[string]string
	Value  [2]any   // of an instant: time and value
	Values [][2]any // of a range
}

// Numbers returns how many of the values are numbers: a quantile of nothing is
// NaN, which no graph can show.
func (s Series) Numbers() (n int) {
	for _, v := range append(s.Values, s.Value) {
		if text, ok := v[1].(string); ok && text != "NaN" {
			n++
		}
	}
	return n
}

// Query returns the series of an expression at this moment.
func (p Prometheus) Query(ctx context.Context, expr string) (series []Series, err error) {
	var data struct{ Result []Series }
	err = p.get(ctx, "query", url.Values{"query": {expr}}, &data)
	return data.Result, err
}

// Range returns the series of an expression over the time before this moment.
func (p Prometheus) Range(ctx context.Context, expr string, over, step time.Duration) (series []Series, err error) {
	var data struct{ Result []Series }
	now := time.Now()
	err = p.get(ctx, "query_range", url.Values{
		"query": {expr},
		"start": {now.Add(-over).Format(time.RFC3339Nano)},
		"end":   {now.Format(time.RFC3339Nano)},
		"step":  {fmt.Sprint(step.Seconds())},
	}, &data)
	return data.Result, err
}

// LabelValues returns the values that a label has in the series of a selector.
func (p Prometheus) LabelValues(ctx context.Context, selector, label string) (values []string, err error) {
	err = p.get(ctx, "label/"+label+"/values", url.Values{"match[]": {selector}}, &values)
	return values, err
}

// Targets returns the health of each target, by job and instance.
func (p Prometheus) Targets(ctx context.Context) (map[string]string, error) {
	var data struct {
		ActiveTargets []struct {
			Labels map[string]string
			Health string
		}
	}
	err := p.get(ctx, "targets", nil, &data)
	targets := map[string]string{}
	for _, t := range data.ActiveTargets {
		targets[t.Labels["job"]+" "+t.Labels["instance"]] = t.Health
	}
	return targets, err
}

// Alerts returns the health of each alerting rule, by its name: ok, unknown before
// it was evaluated, or err.
func (p Prometheus) Alerts(ctx context.Context) (map[string]string, error) {
	var data struct {
		Groups []struct {
			Rules []struct{ Name, Health string }
		}
	}
	err := p.get(ctx, "rules", url.Values{"type": {"alert"}}, &data)
	alerts := map[string]string{}
	for _, g := range data.Groups {
		for _, r := range g.Rules {
			alerts[r.Name] = r.Health
		}
	}
	return alerts, err
}

func (p Prometheus) get(ctx context.Context, path string, values url.Values, data any) error {
	body, err := Get(ctx, string(p)+"/api/v1/"+path+"?"+values.Encode())
	if err != nil {
		return err
	}
	return json.Unmarshal(body, &struct{ Data any }{data})
}
