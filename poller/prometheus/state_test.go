package prometheus_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// replica is what Prometheus has of a replica: its state, the time of its last success
// (-1: none), and whether a step is overdue.
type replica struct {
	state   string
	success int
	overdue bool
}

var down = replica{state: "down"} // seen an hour ago

// The dashboard shows the state of the replica that delivers, whatever the others do.
var replicaStates = map[string]struct {
	replicas []replica
	want     string
}{
	"up to date":                        {[]replica{{state: "idle", success: 90}}, "up to date"},
	"copying":                           {[]replica{{state: "working", success: 90}}, "copying"},
	"before the first success":          {[]replica{{state: "working", success: -1}}, "copying"},
	"held back":                         {[]replica{{state: "held", success: 90}}, "held back"},
	"failing from the start":            {[]replica{{state: "backoff", success: -1}}, "failing"},
	"stuck":                             {[]replica{{state: "working", success: 90, overdue: true}}, "stuck"},
	"stopped":                           {[]replica{{state: "stopped", success: 90}}, "stopped"},
	"done":                              {[]replica{{state: "done", success: 90}}, "done"},
	"down":                              {[]replica{down}, "down"},
	"the standby waits":                 {[]replica{{state: "idle", success: 90}, {state: "stopped", success: -1}}, "up to date"},
	"the standby was active before":     {[]replica{{state: "backoff", success: -1}, {state: "stopped", success: 80}}, "failing"},
	"the standby tries to get the lock": {[]replica{{state: "idle", success: 90}, {state: "backoff", success: -1}}, "up to date"},
	"the standby tries, the active one fails": {[]replica{{state: "backoff", success: 90}, {state: "idle", success: 70}}, "failing"},
	"the standby is stuck":                    {[]replica{{state: "held", success: 90}, {state: "working", success: 70, overdue: true}}, "held back"},
	"the active one is down":                  {[]replica{down, {state: "stopped", success: -1}}, "stopped"},
	"the standby is down":                     {[]replica{down, {state: "idle", success: 90}}, "up to date"},
	"a standby by lease":                      {[]replica{{state: "idle", success: 90}, {state: "standby", success: -1}}, "up to date"},
	"a standby that was active last":          {[]replica{{state: "idle", success: -1}, {state: "standby", success: 90}}, "up to date"},
	"the active one fails, another stands by": {[]replica{{state: "backoff", success: 80}, {state: "standby", success: 90}}, "failing"},
	"no replica has the lease":                {[]replica{{state: "standby", success: 90}, {state: "standby", success: -1}}, "stopped"},
	"will be restarted":                       {[]replica{{state: "restarting", success: 90}}, "failing"},
	"the other is done":                       {[]replica{{state: "idle", success: 90}, {state: "done", success: 95}}, "up to date"},
	"one is done, one has failed":             {[]replica{{state: "stopped", success: 90}, {state: "done", success: 95}}, "stopped"},
}

// stateQuery returns the query of the column State, for all pipelines.
func stateQuery(t *testing.T) string {
	for _, p := range dashboard(t).allPanels() {
		if p.Type == "table" {
			return strings.NewReplacer("$job", ".+", "$pipeline", ".+", "$selector", "").Replace(p.Targets[0].Expr)
		}
	}
	require.Fail(t, "no table")
	return ""
}

func TestStateOfReplicas(t *testing.T) {
	promtool := program(t, "promtool", "prometheus")
	text := func(v any) string {
		b, err := json.Marshal(v)
		require.NoError(t, err)
		return string(b)
	}
	is := map[bool]int{true: 1}
	var series []map[string]string
	var samples []map[string]any
	for name, c := range replicaStates {
		for i, r := range c.replicas {
			add := func(metric, more string, value any) {
				values := text(value) + "x100"
				if r == down {
					values = text(value) + "x30 stale"
				}
				series = append(series, map[string]string{
					"series": "devotion_" + metric + `{job="shop",instance="` + string(rune('a'+i)) + `",pipeline=` + text(name) + more + "}", "values": values,
				})
			}
			add("interval_seconds", "", 1)
			if r == down {
				continue
			}
			for _, state := range []string{"stopped", "standby", "working", "idle", "held", "backoff", "restarting", "done"} {
				add("state", `,state="`+state+`"`, is[state == r.state])
			}
			add("overdue", "", is[r.overdue])
			if r.success >= 0 {
				add("last_success_timestamp_seconds", "", 1_700_000_000+r.success)
			}
		}
		samples = append(samples, map[string]any{"labels": `{job="shop",pipeline=` + text(name) + "}", "value": stateNumber(t, c.want)})
	}
	path := filepath.Join(t.TempDir(), "state.json")
	require.NoError(t, os.WriteFile(path, []byte(text(map[string]any{"tests": []any{map[string]any{
		"interval": "1m", "input_series": series, "promql_expr_test": []any{map[string]any{"expr": stateQuery(t), "eval_time": "90m", "exp_samples": samples}},
	}}})), 0o600))
	out, err := exec.Command(promtool, "test", "rules", path).CombinedOutput()
	require.NoError(t, err, "%s", out)

	uses := 0
	for _, p := range dashboard(t).Panels {
		for _, q := range p.Targets {
			uses += strings.Count(strings.NewReplacer("$job", ".+", "$pipeline", ".+", "$selector", "").Replace(q.Expr), stateQuery(t))
		}
	}
	assert.Equal(t, 3, uses, "the two counts use the query of the table")
}

// stateNumber returns the number that the dashboard shows as a text.
func stateNumber(t *testing.T, shown string) json.Number {
	found := regexp.MustCompile(`"(\d)": {"text": "` + shown + `"`).FindStringSubmatch(read(t, "dashboard.json"))
	require.Len(t, found, 2, shown)
	return json.Number(found[1])
}
