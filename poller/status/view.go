package status

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/poller"
)

//go:embed page.html page.css page.js icon-*.svg
var files embed.FS

var page = template.Must(template.ParseFS(files, "page.html"))

// serveFile sets the content type itself: the system's table may have one for .js
// that keeps a browser from running it.
func serveFile(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	kind := map[string]string{
		".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
	}[path.Ext(name)]
	content, err := files.ReadFile(name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(content)
}

// build identifies the page's files, so that an open page notices that the
// program was updated.
var build = func() string {
	sum := sha256.New()
	for _, name := range []string{"page.html", "page.css", "page.js"} {
		b, _ := files.ReadFile(name)
		sum.Write(b)
	}
	return fmt.Sprintf("%x", sum.Sum(nil)[:6])
}()

// view is the data of page.html.
type view struct {
	Build, Version         string
	Level                  level
	Headline, Announcement string
	Now, Started           *moment
	Totals                 []fact
	Groups                 []*group
}

// group is one card, or several that need attention for one cause.
type group struct {
	ID, Title, Cause string
	Level            level
	Open             bool
	Since            *moment // the earliest of its cards
	Cards            []card
}

type card struct {
	ID, Name, Summary string
	Level             level
	Open              bool
	Since             *moment // when the pipeline began to need attention
	Position          string  // set while the pipeline is healthy
	Aged              bool    // Summary says for how long
	Ceiling           string
	Lossy             bool
	Guarantee         string
	Rows, Lag         chart
	Facts             []fact
	HeldBy            []string // set if rows have been held back for long
	Stuck             string   // the step that is stuck, if any
	Failure           *failure
}

type fact struct {
	Label, Value string
	At           *moment // in place of Value
	Style        string
}

type failure struct {
	Now      bool // not recovered
	What     string
	Text     string
	At, Next *moment
}

// moment is a time and its age.
type moment struct {
	time.Time
	age time.Duration
}

func at(t, now time.Time) *moment {
	if t.IsZero() {
		return nil
	}
	return &moment{t, now.Sub(t).Truncate(time.Second)}
}

func (m moment) Age() string { return duration(m.age) }

func (m moment) Ago() string {
	if m.age < time.Second {
		return "just now"
	}
	return m.Age() + " ago"
}

// RFC is the exact time, for programs and tooltips.
func (m moment) RFC() string { return m.UTC().Format(time.RFC3339) }

// Clock is in UTC; JavaScript replaces it by the reader's local time.
func (m moment) Clock() string { return m.UTC().Format("2 Jan 15:04:05 UTC") }

func (p *Page) serveHTML(w http.ResponseWriter, _ *http.Request) {
	now, all := p.read()
	v := p.view(now, all)
	var b bytes.Buffer
	if err := page.Execute(&b, v); err != nil {
		http.Error(w, "status: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(b.Bytes())
}

func (p *Page) view(now time.Time, all []reading) view {
	slices.SortStableFunc(all, func(a, b reading) int { return cmp.Compare(b.condition.level, a.condition.level) })
	return view{
		Build: build, Version: line(p.Version), Level: worst(all), Headline: headline(all), Announcement: announcement(all),
		Now: &moment{Time: now}, Started: at(p.since(), now), Totals: totals(now, all), Groups: groups(now, all),
	}
}

// groups puts pipelines that have one cause together. It unfolds everything if
// there is little, otherwise the first ones that need attention.
func groups(now time.Time, all []reading) (out []*group) {
	byCause := map[string]*group{}
	for _, r := range all {
		c := newCard(r, now)
		cause, key := r.cause()
		if g := byCause[key]; g != nil && cause != "" {
			g.Cards = append(g.Cards, c)
			g.Title = fmt.Sprintf("%d pipelines %s", len(g.Cards), plural(r.condition.is))
			if c.Since != nil && g.Since != nil && c.Since.Before(g.Since.Time) {
				g.Since = c.Since
			}
			continue
		}
		g := &group{ID: "group-" + c.ID, Cause: cause, Level: c.Level, Since: c.Since, Cards: []card{c}}
		byCause[key] = g
		out = append(out, g)
	}
	for i, g := range out {
		g.Open = len(all) <= 3 || i < 3 && g.Level >= warn
		g.Cards[0].Open = g.Open && len(g.Cards) == 1
	}
	return out
}

func totals(now time.Time, all []reading) []fact {
	var perSecond float64
	var rows, refused, lossy int64
	lag, known := time.Duration(0), false
	for _, r := range all {
		perSecond += r.rate
		rows += r.Records
		refused += r.DeadLetters
		if d, ok := r.Lag(now); ok {
			lag, known = max(lag, d), true
		}
		if r.Guarantee != nil && r.Guarantee.Lossy {
			lossy++
		}
	}
	longest := "unknown"
	if known {
		longest = duration(lag)
	}
	out := []fact{
		{Label: "Pipelines", Value: count(int64(len(all)))},
		{Label: "Rows per second", Value: rate(perSecond)},
		{Label: "Longest lag", Value: longest},
		{Label: "Total rows", Value: count(rows)},
		alarming("Dead letters", refused),
	}
	if lossy > 0 {
		out = append(out, alarming("Lossy pipelines", lossy))
	}
	return out
}

func newCard(r reading, now time.Time) card {
	lag, known := r.Status.Lag(now)
	id := fmt.Sprintf("pipeline-%d", r.id)
	c := card{
		ID: id, Name: line(r.Name), Summary: line(r.summary), Level: r.condition.level,
		Since: at(r.condition.since, now), Aged: r.Overdue || r.Attempts == 0 && r.Held != nil,
		Rows: rowsChart(id, r.history), Lag: lagChart(id, r.history, lag, known),
		Facts: facts(r, now), Failure: newFailure(r, now),
	}
	if g := r.Guarantee; g != nil {
		c.Ceiling, c.Guarantee, c.Lossy = line(g.Name), line(g.Text), g.Lossy
	}
	if r.Held != nil && r.condition.level > ok {
		for _, by := range r.Held.By {
			c.HeldBy = append(c.HeldBy, line(by))
		}
		if len(c.HeldBy) == 0 {
			c.HeldBy = []string{"an unknown holder"}
		}
	}
	if r.condition.level == ok {
		c.Position = line(r.Position)
	}
	if r.Overdue {
		c.Stuck = stepName(r.Op)
	}
	return c
}

func facts(r reading, now time.Time) []fact {
	ago := func(label string, t time.Time) fact {
		return fact{Label: label, Value: "never", At: at(t, now)}
	}
	position := fact{Label: "Position", Value: cmp.Or(line(r.Position), line(string(r.Cursor)), "at the beginning"), Style: "code"}
	if len(position.Value) > 20 {
		position.Style = "code wide"
	}
	out := []fact{
		{Label: "Total rows", Value: count(r.Records)},
		{Label: "Batches", Value: count(r.Batches)},
		alarming("Dead letters", r.DeadLetters),
		{Label: "Polls every", Value: duration(r.Interval)},
		{Label: "Step", Value: stepWords(r.Status)},
		ago("Last poll", r.LastPoll),
		ago("Last row", r.LastRecord),
		ago("Checkpoint saved", r.LastSave),
		ago("Started", r.Started),
		position,
	}
	if r.Pending > 0 {
		out = append(out, fact{Label: "Rows pending", Value: "at most " + count(r.Pending)})
	}
	return out
}

// alarming is a count that should be zero.
func alarming(label string, n int64) fact {
	f := fact{Label: label, Value: count(n)}
	if n > 0 {
		f.Style = "some"
	}
	return f
}

func newFailure(r reading, now time.Time) *failure {
	if r.LastError == "" {
		return nil
	}
	f := &failure{Text: line(r.LastError), At: at(r.LastErrorTime, now), What: "Recovered from an error"}
	switch {
	case r.State == poller.Stopped:
		f.Now, f.What = true, "The last error occurred"
	case r.Attempts > 0:
		f.Now, f.What = true, stepName(cmp.Or(r.failing.op, r.Op))+" failed, last"
		if r.State == poller.Backoff {
			f.Next = at(r.Due, now)
		}
	}
	return f
}

func stepWords(s poller.Status) string {
	switch s.State {
	case poller.Stopped:
		return "none"
	case poller.Idle, poller.Held:
		return "waiting"
	case poller.Backoff:
		return "waiting to " + line(string(s.Op))
	}
	return line(string(s.Op))
}

var stepNames = map[poller.Op]string{
	poller.OpLoad: "Loading the checkpoint", poller.OpFetch: "Fetching", poller.OpWrite: "Writing",
	poller.OpDeadLetter: "Writing a dead letter", poller.OpSave: "Saving the checkpoint",
}

func stepName(op poller.Op) string { return cmp.Or(stepNames[op], "The loop") }
