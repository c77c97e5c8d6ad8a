package status_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/status"
	"github.com/artifactofdevotion/devotion/source"
)

// down is what pgx says of pipeline i when its database is down.
func down(i int) string {
	return fmt.Sprintf("sqlsource: table%d: failed to connect to `user=ada database=shop`:\n\t10.0.0.2:5432 (db): dial error: dial tcp 10.0.0.2:5432: connect: connection refused", i)
}

// cards returns the headings of the page's cards, those of one group on one line.
func cards(body string) (out []string) {
	for _, part := range strings.Split(body, "<article id=")[1:] {
		_, name, _ := strings.Cut(part, "<h2 id=")
		_, name, _ = strings.Cut(name, ">")
		name, _, _ = strings.Cut(name, "</h2>")
		name = strings.NewReplacer("<bdi>", "", "</bdi>", "").Replace(name)
		if member := strings.HasPrefix(part, `"pipeline-`) && strings.Contains(body, `"group-`); member && len(out) > 0 {
			out[len(out)-1] += " " + name
		} else {
			out = append(out, name)
		}
	}
	return out
}

func TestTenFailuresOfOneCauseAreOneCard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var page status.Page
		began := time.Now()
		time.Sleep(time.Hour)
		now := time.Now()
		for i := range 10 {
			hooks, _ := attach(&page, poller.Status{
				Name: fmt.Sprint("p", i), State: poller.Backoff, Op: poller.OpFetch, Attempts: 7 + i, Interval: time.Second,
				Started: began, LastPoll: now.Add(-5 * time.Minute), LastError: down(i), LastErrorTime: now,
			})
			hooks.Backoff(poller.BackoffInfo{Op: poller.OpFetch})
			time.Sleep(time.Second)
		}
		body := html(t, &page)
		assert.Equal(t, []string{"10 pipelines are failing p0 p1 p2 p3 p4 p5 p6 p7 p8 p9"}, cards(body))
		assert.Contains(t, body, "<title>✕ 10 of 10 pipelines are failing</title>")
		assert.Equal(t, 1, strings.Count(body, "<details open>"), "the pipelines are folded")
		assert.Contains(t, body, `<p class="code"><bdi>failed to connect to `+"`user=ada database=shop`"+
			`: 10.0.0.2:5432 (db): dial error: dial tcp 10.0.0.2:5432: connect: connection refused</bdi></p>`)
		assert.Contains(t, body, "failing, 16 attempts, trying again")
		assert.NotContains(t, body, `\t`)
		assert.NotContains(t, get(t, &page, "/status").Body.String(), `\t`)
		assert.Regexp(t, `one cause</span> <span class="since">since <time datetime="2000-01-01T01:00:00Z"`, body, "of the first failure")
	})
}

func TestWhatCountsAsOneCause(t *testing.T) {
	now := time.Now()
	since := now.Add(-time.Hour)
	failing := func(text string) poller.Status {
		return poller.Status{State: poller.Backoff, Attempts: 1, LastError: text}
	}
	done := poller.Status{State: poller.Stopped, Done: true, Attempts: 1, LastError: "x"}
	stopped := func(text string) poller.Status { return poller.Status{State: poller.Stopped, LastError: text} }
	step := func(op poller.Op) poller.Status {
		return poller.Status{State: poller.Backoff, Attempts: 1, Op: op, LastError: "context deadline exceeded"}
	}
	held := func(by ...string) poller.Status {
		return poller.Status{State: poller.Held, Started: since, LastPoll: now, Held: &source.Held{Since: since, By: by}}
	}
	for name, c := range map[string]struct {
		a, b poller.Status
		one  bool
	}{
		"the same error":             {failing("no route to host"), failing("no route to host"), true},
		"of different tables":        {failing("sqlsource: a: no route"), failing("sqlsource: public.b: no route"), true},
		"from different ports":       {failing("read tcp 10.0.0.1:40001->10.0.0.2:5432: reset"), failing("read tcp 10.0.0.1:40002->10.0.0.2:5432: reset"), true},
		"after different times":      {failing("no answer within 1m30s"), failing("no answer within 2.5s"), true},
		"of different servers":       {failing("dial tcp 10.0.0.2:5432: refused"), failing("dial tcp 10.0.0.3:5432: refused"), false},
		"different errors":           {failing("no route to host"), failing("disk full"), false},
		"of hosts with digits":       {failing("lookup db1master: no such host"), failing("lookup db2master: no such host"), false},
		"of different files":         {failing("filesink: /data/a: permission denied"), failing("filecheckpoint: /other/b: permission denied"), false},
		"of different directories":   {failing("filesink: a: permission denied"), failing("filesink: b: permission denied"), false},
		"in the same step":           {step(poller.OpFetch), step(poller.OpFetch), true},
		"in different steps":         {step(poller.OpFetch), step(poller.OpWrite), false},
		"unknown errors":             {failing(""), failing(""), false},
		"failing and stopped":        {failing("disk full"), stopped("disk full"), false},
		"stopped":                    {stopped("wrong password"), stopped("wrong password"), true},
		"the same holder":            {held("pid 7 (psql), open for 4m12s"), held("pid 7 (psql), open for 4m13s"), true},
		"different holders":          {held("pid 7 (psql)"), held("pid 8 (psql)"), false},
		"unknown holders":            {held(), held(), false},
		"healthy after an old error": {poller.Status{State: poller.Idle, Started: since, LastPoll: now, LastError: "x"}, poller.Status{State: poller.Idle, Started: since, LastPoll: now, LastError: "x"}, false},
		"done after an error":        {done, done, false},
		"stuck after an old error":   {poller.Status{State: poller.Working, Overdue: true, LastError: "x"}, poller.Status{State: poller.Working, Overdue: true, LastError: "x"}, false},
	} {
		var page status.Page
		c.a.Name, c.b.Name = "a", "b"
		attach(&page, c.a)
		attach(&page, poller.Status{Name: "between", State: poller.Backoff, Attempts: 1, LastError: "something else"})
		attach(&page, c.b)
		assert.Equal(t, c.one, strings.Contains(html(t, &page), `"group-`), name)
	}
}

func TestTheGuaranteeIsShown(t *testing.T) {
	var page status.Page
	now := time.Now()
	healthy := poller.Status{Name: "orders", State: poller.Idle, Started: now, LastPoll: now.Add(time.Second), Cursor: "opaque"}
	_, change := attach(&page, healthy)
	body := html(t, &page)
	assert.NotContains(t, body, "with the ceiling")
	assert.NotContains(t, body, "Guarantee")
	assert.NotContains(t, strings.ToLower(body), "lossy")
	assert.NotContains(t, body, "pending")
	assert.Contains(t, body, `<div class="code"><dt>Position</dt><dd><bdi>opaque</bdi></dd></div>`)

	change(func(s *poller.Status) {
		s.Guarantee = &source.Guarantee{Name: "lock-fence", Text: "Every row is read, in order."}
		s.Position, s.Pending, s.Pinned = "id 42", 1234, 1610612736
	})
	body = html(t, &page)
	assert.Contains(t, body, `<span class="ceiling" title="ceiling"><bdi>lock-fence</bdi></span>`)
	assert.Contains(t, body, `<dt>Guarantee, with the ceiling <bdi>lock-fence</bdi></dt><dd><bdi>Every row is read, in order.</bdi></dd>`)
	assert.Contains(t, body, `<span class="words"><bdi>up to date</bdi></span> <span class="position"><bdi>id 42</bdi></span>`)
	assert.Contains(t, body, `<dt>Position</dt><dd><bdi>id 42</bdi></dd>`)
	assert.Contains(t, body, `<dt>Rows pending</dt><dd><bdi>at most 1,234</bdi></dd>`)
	assert.Contains(t, body, `<dt>Log kept by the server</dt><dd><bdi>1.5 GiB</bdi></dd>`)
	assert.NotContains(t, strings.ToLower(body), "lossy")

	change(func(s *poller.Status) { s.Guarantee = &source.Guarantee{Text: "Every row is read."} })
	assert.Contains(t, html(t, &page), `<dt>Guarantee</dt><dd><bdi>Every row is read.</bdi></dd>`)

	change(func(s *poller.Status) {
		s.Guarantee = &source.Guarantee{Name: "lag=5m0s", Text: "A row that commits later than 5m is missed.", Lossy: true}
	})
	body = html(t, &page)
	assert.Contains(t, body, `<strong class="lossy">LOSSY</strong> <bdi>lag=5m0s</bdi>`)
	assert.Contains(t, body, "<h3>LOSSY: rows can be missed with the ceiling <bdi>lag=5m0s</bdi></h3>\n<p><bdi>A row that commits later than 5m is missed.</bdi></p>")
	assert.Contains(t, body, `<dt>Lossy pipelines</dt><dd class="some">1</dd>`)
	assert.Contains(t, body, "<title>✓ orders is healthy</title>", "a lossy ceiling was chosen; it is no failure")
}
