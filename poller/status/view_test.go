package status_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/status"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

func html(t *testing.T, page *status.Page) string {
	t.Helper()
	return strings.ReplaceAll(get(t, page, "/").Body.String(), "\u00a0", " ")
}

const hostile = `<script>alert("x")</script>'"><img src=x onerror=alert(1)>` + "\u202e\xff\x00{{.}}&amp;"

// Everything that comes from outside is escaped, wherever it is shown.
func TestEverythingIsEscaped(t *testing.T) {
	page := &status.Page{Version: hostile}
	for _, s := range []poller.Status{
		{Name: hostile, State: poller.Held, Cursor: hostile, LastError: hostile, LastErrorTime: time.Now(),
			Started: time.Now(), Held: &source.Held{By: []string{hostile}}},
		{Name: hostile, State: poller.Idle, Started: time.Now(), LastPoll: time.Now().Add(time.Second), Position: hostile,
			Guarantee: &source.Guarantee{Name: hostile, Text: hostile}},
		{Name: hostile, State: poller.Stopped, Position: hostile, LastError: hostile, Guarantee: &source.Guarantee{Name: hostile, Text: hostile, Lossy: true}},
		{Name: hostile, State: poller.Stopped, LastError: hostile},
		{Name: hostile, State: poller.Idle, Uploads: sink.Pending{Attempts: 1, Err: errors.New(hostile)}},
		{Name: hostile, State: poller.Backoff, Op: hostile, Attempts: 1, LastError: hostile},
		{Name: hostile, State: poller.Working, Op: hostile, Overdue: true},
	} {
		attach(page, s)
	}
	body := get(t, page, "/").Body.String()
	for _, never := range []string{"<script>alert", "<img", "onerror=alert(1)>", "\u202e", "\xff", "\x00"} {
		assert.NotContains(t, body, never)
	}
	assert.Equal(t, 1, strings.Count(body, "<script"), "our own")
	assert.Contains(t, body, `&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;&#39;&#34;&gt;&lt;img src=x onerror=alert(1)&gt;\u202e`+"\uFFFD"+`\x00{{.}}&amp;amp;`)

	for _, path := range []string{"/status", "/status?history"} {
		json := get(t, page, path).Body.String()
		assert.NotContains(t, json, "<")
		assert.NotContains(t, json, "\xff")
	}
	for _, path := range []string{"/livez", "/readyz"} {
		assert.NotContains(t, get(t, page, path).Body.String(), "\u202e")
	}
}

func TestPipelinesInTroubleComeFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var page status.Page
		time.Sleep(time.Hour)
		now := time.Now()
		healthy := poller.Status{Interval: time.Second, State: poller.Idle, Started: now.Add(-time.Hour), LastPoll: now}
		change := map[string]func(*poller.Status){
			"b": func(s *poller.Status) {},
			"c": func(s *poller.Status) { s.State, s.Held = poller.Held, &source.Held{Since: now.Add(-59 * time.Second)} },
			"d": func(s *poller.Status) { s.State, s.Held = poller.Held, &source.Held{Since: now.Add(-61 * time.Second)} },
			"e": func(s *poller.Status) { s.LastPoll = now.Add(-2 * time.Minute) },
			"f": func(s *poller.Status) { s.Started, s.State = time.Time{}, poller.Working },
			"g": func(s *poller.Status) { s.Attempts = 3 },
			"h": func(s *poller.Status) { s.Overdue = true },
			"i": func(s *poller.Status) { s.State = poller.Stopped },
		}
		for _, name := range []string{"b", "c", "d", "e", "f", "g", "h", "i"} {
			s := healthy
			s.Name = name
			change[name](&s)
			attach(&page, s)
		}
		body := html(t, &page)
		var order string
		for _, part := range strings.Split(body, "<article id=")[1:] {
			_, name, _ := strings.Cut(part, "<bdi>")
			order += name[:1]
		}
		assert.Equal(t, "ghidefbc", order)
		assert.Contains(t, body, "<title>✕ 6 of 8 pipelines need attention</title>")
		assert.Contains(t, body, ">g is failing, h is stuck, i is stopped, d is held back, e has not succeeded recently, and 1 more.<")
		assert.Equal(t, 3, strings.Count(body, "<details open>"), "with many pipelines, only the first that need attention")
	})
}

func TestUploads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var page status.Page
		time.Sleep(time.Hour)
		now := time.Now()
		_, change := attach(&page, poller.Status{Name: "orders", Interval: time.Second, State: poller.Idle, Started: now.Add(-time.Hour), LastPoll: now})
		assert.NotContains(t, html(t, &page), "upload")
		assert.NotContains(t, get(t, &page, "/status").Body.String(), "upload")
		change(func(s *poller.Status) { s.Uploads = sink.Pending{Segments: 2, Since: now.Add(-time.Hour)} })
		body := html(t, &page)
		assert.Contains(t, body, "<dt>Files to upload</dt><dd><bdi>2, the oldest for 1 h</bdi></dd>")
		assert.Contains(t, body, "orders is healthy", "a big file takes long")

		failing := sink.Pending{Segments: 2, Since: now.Add(-time.Minute), Attempts: 7, Err: errors.New("403 Forbidden")}
		change(func(s *poller.Status) { s.Uploads = failing })
		body = html(t, &page)
		assert.Contains(t, body, "An upload has failed 7 times, and is tried again")
		assert.Contains(t, body, "403 Forbidden")
		assert.Contains(t, body, "orders is healthy", "not yet")
		time.Sleep(time.Second)
		change(func(s *poller.Status) { s.LastPoll = time.Now() })
		body = html(t, &page)
		assert.Contains(t, body, "<title>! orders cannot upload</title>")
		assert.Contains(t, body, "up to date, cannot upload")
		assert.Contains(t, get(t, &page, "/status").Body.String(), `"uploads": {
        "segments": 2,
        "since": "2000-01-01T00:59:00Z",
        "lag_seconds": 61,
        "attempts": 7,
        "last_error": "403 Forbidden"
      }`)
		assert.Equal(t, 200, get(t, &page, "/readyz").Code, "the rows are stored")
	})
}

func TestWithManyPipelinesHealthyOnesAreFolded(t *testing.T) {
	now := time.Now()
	for n, open := range map[int]int{1: 1, 3: 3, 4: 0, 50: 0} {
		var page status.Page
		for range n {
			attach(&page, poller.Status{Name: "orders", State: poller.Idle, Started: now, LastPoll: now.Add(time.Second)})
		}
		body := html(t, &page)
		assert.Equal(t, open, strings.Count(body, "<details open>"))
		assert.Contains(t, body, ">just now<", "also after the clock was set back")
	}
}

func TestWhenAFailedStepIsTriedAgain(t *testing.T) {
	var page status.Page
	_, change := attach(&page, poller.Status{
		State: poller.Backoff, Op: poller.OpWrite, Attempts: 2, LastError: "disk full", LastErrorTime: time.Now(), Due: time.Now(),
	})
	assert.Regexp(t, "Writing failed, last at .*, next attempt by ", html(t, &page))
	change(func(s *poller.Status) { s.State = poller.Working })
	assert.Contains(t, html(t, &page), "Writing failed, last at ")
	assert.NotContains(t, html(t, &page), "next attempt")
	change(func(s *poller.Status) { s.State = poller.Stopped })
	assert.Contains(t, html(t, &page), "The last error occurred at ")
}

// After a late write the Poller loads the cursor and fetches the batch again. The page
// still names the write as the step that fails, also when such a fetch fails once.
func TestTheStepThatFailsIsNamedWhileAnotherIsInProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var page status.Page
		p := newPipeline(&page, "orders")
		p.Source.Append(1, 2, 3, 4, 5)
		p.Source.Delay(5 * time.Second)
		p.Sink.Delay(time.Hour)
		p.poller.Deadline = 10 * time.Second
		defer p.start(t)()
		time.Sleep(15*time.Second + time.Millisecond) // of which 5 for the fetch
		first := time.Now().UTC()
		fetching := 0
		for range 600 {
			body, s := html(t, &page), p.poller.Status()
			require.Contains(t, body, "Writing failed, last at ", "in state %s of %s", s.State, s.Op)
			if s.State == poller.Working && s.Op == poller.OpFetch {
				fetching++
			}
			time.Sleep(time.Second)
		}
		assert.NotZero(t, fetching)
		p.Source.FailNext(1, errors.New("connection reset"))
		for range 600 {
			require.Contains(t, html(t, &page), `since <time datetime="`+first.Format(time.RFC3339)+`"`)
			time.Sleep(time.Second)
		}
		p.Sink.Heal()
		time.Sleep(time.Minute)
		assert.Contains(t, html(t, &page), "orders is healthy")
		p.Sink.Fail(errors.New("disk full"))
		p.Source.Append(6)
		time.Sleep(time.Minute)
		assert.Regexp(t, `is failing</title>(?s:.)*since <time datetime="2000-01-01T00:2`, html(t, &page), "since the second outage")
	})
}

func TestHeadlines(t *testing.T) {
	now := time.Now()
	healthy := poller.Status{Name: "orders", State: poller.Idle, Started: now, LastPoll: now}
	starting := poller.Status{Name: "loading", State: poller.Working}
	failing := poller.Status{Name: "a <b>", State: poller.Backoff, Attempts: 1}
	for want, all := range map[string][]poller.Status{
		"! No pipeline is attached":         nil,
		"✓ orders is healthy":               {healthy},
		"✓ All pipelines are healthy":       {healthy, healthy},
		"… loading is starting":             {healthy, starting},
		"… 2 of 3 pipelines are starting":   {healthy, starting, starting},
		"✕ a &lt;b&gt; is failing":          {healthy, failing},
		"✕ 2 of 3 pipelines are failing":    {failing, failing, healthy},
		"✕ 2 of 2 pipelines need attention": {starting, failing},
	} {
		var page status.Page
		for _, s := range all {
			attach(&page, s)
		}
		assert.Contains(t, html(t, &page), "<title>"+want+"</title>")
	}
}

// The announcement for screen readers does not change with the numbers.
func TestOnlyChangesOfStateAreAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var page status.Page
		now := time.Now()
		_, change := attach(&page, poller.Status{Name: "orders", State: poller.Idle, Started: now, LastPoll: now})
		announced := func() string {
			_, rest, found := strings.Cut(html(t, &page), `<p id="announcement" class="unseen" role="status">`)
			require.True(t, found)
			text, _, _ := strings.Cut(rest, "</p>")
			return text
		}
		assert.Equal(t, "orders is healthy.", announced())
		change(func(s *poller.Status) { s.State, s.Op, s.Records = poller.Working, poller.OpWrite, 7 })
		assert.Equal(t, "orders is healthy.", announced())
		for i := range 5 {
			change(func(s *poller.Status) { s.State, s.Attempts = poller.Backoff, i+1 })
			assert.Equal(t, "orders is failing.", announced())
			time.Sleep(time.Minute)
		}
	})
}

func TestEverythingIsShownWithoutAScript(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		page := &status.Page{Version: "1.2.3"}
		began := time.Now()
		hooks, _ := attach(page, poller.Status{
			Name: "orders", Interval: 1500 * time.Millisecond, Started: began, State: poller.Held, Since: began.Add(200 * time.Second),
			Cursor: "a-cursor-of-more-than-twenty-characters", Batches: 1234, Records: 1234567, DeadLetters: 2,
			LastPoll: began.Add(200 * time.Second), LastRecord: began.Add(100 * time.Second), LastSave: began.Add(90 * time.Second),
			AsOf: began.Add(50 * time.Second), Held: &source.Held{Since: began.Add(time.Second), By: []string{"pid 7 (psql)"}},
			LastError: "connection\nrefused", LastErrorTime: began.Add(5 * time.Second),
		})
		time.Sleep(200 * time.Second)
		hooks.Poll(poller.PollInfo{Records: 1000, Start: time.Now(), AsOf: began.Add(50 * time.Second)})
		time.Sleep(5 * time.Second)
		body := html(t, page)
		for _, want := range []string{
			`<noscript><meta http-equiv="refresh" content="10"></noscript>`,
			"1.2.3", "held back for 3m24s by pid 7 (psql)", "<li><bdi>pid 7 (psql)</bdi></li>",
			`since <time datetime="2000-01-01T00:00:01Z" title="2000-01-01T00:00:01Z" data-clock>1 Jan 00:00:01 UTC</time>`,
			"1,234,567", "1,234", "1.5 s", ">5 s ago<", ">1 min 45 s ago<", ">1 min 55 s ago<", "waiting",
			`<div class="code wide"><dt>Position</dt><dd><bdi>a-cursor-of-more-than-twenty-characters</bdi></dd></div>`,
			`<div class="some"><dt>Dead letters</dt><dd><bdi>2</bdi></dd></div>`,
			"connection; refused", "Recovered from an error at ",
			`aria-label="Rows per second in the last 15 minutes: now 100, highest 200."`,
			`aria-label="Lag in the last 15 minutes: now 2 min 35 s, highest 2 min 35 s."`,
			`d="M139 100H179V0H180"`,
			`d="M179 13.9H180"`,
		} {
			assert.Contains(t, body, want)
		}
	})
}

func TestLargestPageIsSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var page status.Page
		var all []poller.Hooks
		for i := range 50 {
			hooks, _ := attach(&page, poller.Status{Name: fmt.Sprint("orders-", i)})
			all = append(all, hooks)
		}
		for i := range 180 {
			for j, hooks := range all {
				hooks.Poll(poller.PollInfo{Start: time.Now(), Records: (i*7919 + j*104729) % 10007, AsOf: time.Now()})
			}
			time.Sleep(5 * time.Second)
		}
		assert.Less(t, get(t, &page, "/").Body.Len(), 400<<10)
	})
}

// With many writers rows are often held back for a moment, which is normal.
func TestOnlyLongHoldsAreExplained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var page status.Page
		now := time.Now()
		_, change := attach(&page, poller.Status{
			Name: "orders", State: poller.Held, Started: now, LastPoll: now, Held: &source.Held{Since: now, By: []string{"pid 7"}},
		})
		const explained = "So that no row is missed, the next rows wait for"
		time.Sleep(time.Second)
		assert.Contains(t, html(t, &page), "held back for 1s by pid 7")
		assert.NotContains(t, html(t, &page), explained)
		time.Sleep(time.Minute)
		change(func(s *poller.Status) { s.LastPoll = time.Now() })
		assert.Contains(t, html(t, &page), explained)
	})
}

// batch calls the hooks as a Poller does for one batch.
func batch(ctx context.Context, hooks poller.Hooks, now time.Time) {
	for _, op := range []poller.Op{poller.OpFetch, poller.OpWrite, poller.OpSave} {
		hooks.StepBegin(ctx, poller.StepInfo{Op: op, Start: now})
	}
	hooks.Poll(poller.PollInfo{Start: now, Records: 5000, AsOf: now})
}

func TestHooksAllocateNothing(t *testing.T) {
	var page status.Page
	hooks, _ := attach(&page, poller.Status{})
	now := time.Now()
	assert.Zero(t, testing.AllocsPerRun(1000, func() { batch(t.Context(), hooks, now) }))
}

// BenchmarkHooks measures what the page adds to each batch.
func BenchmarkHooks(b *testing.B) {
	var page status.Page
	hooks, _ := attach(&page, poller.Status{})
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		batch(b.Context(), hooks, now)
	}
}
