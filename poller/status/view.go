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

// serveFile names the type itself: what a system's table says of .js may keep a
// browser from running it.
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

// build tells a page that is open that its script is not that of the program
// any more.
var build = func() string {
	sum := sha256.New()
	for _, name := range []string{"page.html", "page.css", "page.js"} {
		b, _ := files.ReadFile(name)
		sum.Write(b)
	}
	return fmt.Sprintf("%x", sum.Sum(nil)[:6])
}()

// view is what page.html shows.
type view struct {
	Build, Version         string
	Level                  level
	Headline, Announcement string
	Now, Started           *moment
	Totals                 []fact
	Cards                  []card
}

// moment is a time and how long ago it was.
type moment struct {
	time.Time
	age time.Duration
}

func (m moment) Age() string { return duration(m.age) }

func (m moment) Ago() string {
	if m.age < time.Second {
		return "just now"
	}
	return m.Age() + " ago"
}

// RFC is for machines, and for those who point at a time.
func (m moment) RFC() string { return m.UTC().Format(time.RFC3339) }

// Clock is replaced by that of the reader's time zone where there is JavaScript.
func (m moment) Clock() string { return m.UTC().Format("2 Jan 15:04:05 UTC") }

type fact struct {
	Label, Value string
	At           *moment // in place of Value
	Style        string
}

type card struct {
	ID, Name, Words string
	Level           level
	Open            bool
	Since           *moment // of a state that is out of the ordinary
	Aged            bool    // Words say for how long
	Rows, Lag       chart
	Facts           []fact
	HeldBy          []string // if it is, for so long that it matters
	Stuck           string   // in what, if it is
	Failure         *failure
}

type failure struct {
	Now      bool // it has not recovered
	What     string
	Text     string
	At, Next *moment
}

func (p *Page) serveHTML(w http.ResponseWriter, _ *http.Request) {
	now, all := p.look()
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
	slices.SortStableFunc(all, func(a, b reading) int { return cmp.Compare(b.mood.level, a.mood.level) })
	v := view{
		Build: build, Version: text(p.Version), Level: worst(all), Headline: headline(all), Announcement: announcement(all),
		Now: &moment{Time: now}, Started: at(p.since(), now), Totals: totals(now, all),
	}
	for i, r := range all {
		c := newCard(r, now)
		// A few are shown whole, of many the first that need somebody.
		c.Open = len(all) <= 3 || i < 3 && c.Level >= warn
		v.Cards = append(v.Cards, c)
	}
	return v
}

func at(t, now time.Time) *moment {
	if t.IsZero() {
		return nil
	}
	return &moment{t, now.Sub(t).Truncate(time.Second)}
}

func totals(now time.Time, all []reading) []fact {
	var perSecond float64
	var rows, refused int64
	lag, known := time.Duration(0), false
	for _, r := range all {
		perSecond += r.rate
		rows += r.Records
		refused += r.DeadLetters
		if d, ok := r.Lag(now); ok {
			lag, known = max(lag, d), true
		}
	}
	longest := "not known"
	if known {
		longest = duration(lag)
	}
	return []fact{
		{Label: "Pipelines", Value: count(int64(len(all)))},
		{Label: "Rows a second", Value: rate(perSecond)},
		{Label: "Longest lag", Value: longest},
		{Label: "Rows in all", Value: count(rows)},
		letters(refused),
	}
}

func newCard(r reading, now time.Time) card {
	lag, known := r.Status.Lag(now)
	id := fmt.Sprintf("pipeline-%d", r.id)
	c := card{
		ID: id, Name: line(r.Name), Words: line(r.words), Level: r.mood.level,
		Since: at(r.mood.since, now), Aged: r.Overdue || r.Attempts == 0 && r.Held != nil, Rows: rowsChart(id, r.history), Lag: lagChart(id, r.history, lag, known),
		Facts: facts(r, now), Failure: newFailure(r, now),
	}
	if r.Held != nil && r.mood.level > ok {
		for _, by := range r.Held.By {
			c.HeldBy = append(c.HeldBy, line(by))
		}
		if len(c.HeldBy) == 0 {
			c.HeldBy = []string{"an unknown holder"}
		}
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
	cursor := fact{Label: "Cursor", Value: cmp.Or(line(string(r.Cursor)), "at the beginning"), Style: "code"}
	if len(cursor.Value) > 20 {
		cursor.Style = "code wide"
	}
	return []fact{
		{Label: "Rows in all", Value: count(r.Records)},
		{Label: "Batches", Value: count(r.Batches)},
		letters(r.DeadLetters),
		{Label: "Polls every", Value: duration(r.Interval)},
		{Label: "Step", Value: stepWords(r.Status)},
		ago("Last poll", r.LastPoll),
		ago("Last row", r.LastRecord),
		ago("Checkpoint saved", r.LastSave),
		ago("Started", r.Started),
		cursor,
	}
}

func letters(n int64) fact {
	f := fact{Label: "Dead letters", Value: count(n)}
	if n > 0 {
		f.Style = "some"
	}
	return f
}

func newFailure(r reading, now time.Time) *failure {
	if r.LastError == "" {
		return nil
	}
	f := &failure{Text: text(r.LastError), At: at(r.LastErrorTime, now), What: "Recovered from an error"}
	switch {
	case r.State == poller.Stopped:
		f.Now, f.What = true, "The last error was"
	case r.Attempts > 0:
		f.Now, f.What = true, stepName(cmp.Or(r.trouble.op, r.Op))+" failed, last"
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

func stepName(op poller.Op) string {
	switch op {
	case poller.OpLoad:
		return "Loading the checkpoint"
	case poller.OpFetch:
		return "Fetching"
	case poller.OpWrite:
		return "Writing"
	case poller.OpDeadLetter:
		return "Writing a dead letter"
	case poller.OpSave:
		return "Saving the checkpoint"
	}
	return "The loop"
}
