package status

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/poller"
)

//go:embed page.html page.css page.js icon-*.svg
var files embed.FS

var page = template.Must(template.ParseFS(files, "page.html"))

func serveFile(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, files, r.URL.Path) }

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
	Age string
}

// RFC is for machines, and for those who point at a time.
func (m moment) RFC() string { return m.UTC().Format(time.RFC3339) }

// Clock is replaced by that of the reader's time zone where there is JavaScript.
func (m moment) Clock() string { return m.UTC().Format("2 Jan 15:04:05 UTC") }

type fact struct {
	Label, Value string
	At           *moment // in place of Value
}

type card struct {
	ID, Name, Words string
	Level           level
	Open            bool
	Since           *moment
	Rows, Lag       chart
	Facts           []fact
	Held            *held
	Failure         *failure
	Cursor          string
}

type held struct {
	Since *moment
	By    []string
}

type failure struct {
	Now  bool // it has not recovered
	What string
	Text string
	At   *moment
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
	v := view{
		Build: build, Version: text(p.Version), Level: worst(all), Headline: headline(all), Announcement: announcement(all),
		Now: &moment{Time: now}, Started: at(p.since(), now), Totals: totals(now, all),
	}
	for i, r := range all {
		v.Cards = append(v.Cards, newCard(i, r, now))
	}
	slices.SortStableFunc(v.Cards, func(a, b card) int { return cmp.Compare(b.Level, a.Level) })
	for i := range v.Cards {
		// A few are shown whole, of many the first that need somebody.
		v.Cards[i].Open = len(all) <= 3 || i < 3 && v.Cards[i].Level >= warn
	}
	return v
}

func at(t, now time.Time) *moment {
	if t.IsZero() {
		return nil
	}
	return &moment{t, duration(max(0, now.Sub(t)).Truncate(time.Second))}
}

func totals(now time.Time, all []reading) []fact {
	var perSecond float64
	var rows, letters int64
	lag, known := time.Duration(0), false
	for _, r := range all {
		perSecond += r.rate
		rows += r.Records
		letters += r.DeadLetters
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
		{Label: "Dead letters", Value: count(letters)},
	}
}

func newCard(i int, r reading, now time.Time) card {
	lag, known := r.Status.Lag(now)
	c := card{
		ID: fmt.Sprintf("pipeline-%d", i+1), Name: line(r.Name), Words: line(r.words), Level: r.mood.level,
		Since: at(r.Since, now), Rows: rowsChart(r.history), Lag: lagChart(r.history, lag, known),
		Cursor: line(string(r.Cursor)),
	}
	ago := func(label string, t time.Time) fact {
		return fact{Label: label, Value: "never", At: at(t, now)}
	}
	c.Facts = []fact{
		{Label: "Rows in all", Value: count(r.Records)},
		{Label: "Batches", Value: count(r.Batches)},
		{Label: "Dead letters", Value: count(r.DeadLetters)},
		{Label: "Step", Value: stepWords(r.Status)},
		ago("Last poll", r.LastPoll),
		ago("Last row", r.LastRecord),
		ago("Checkpoint saved", r.LastSave),
		{Label: "Polls every", Value: duration(r.Interval)},
	}
	if r.Held != nil {
		c.Held = &held{Since: at(r.Held.Since, now), By: []string{"an unknown holder"}}
		if len(r.Held.By) > 0 {
			c.Held.By = nil
		}
		for _, by := range r.Held.By {
			c.Held.By = append(c.Held.By, line(by))
		}
	}
	if r.LastError != "" {
		c.Failure = &failure{Now: r.Attempts > 0 || r.State == poller.Stopped, Text: text(r.LastError), At: at(r.LastErrorTime, now), What: "Last error, recovered from"}
		switch {
		case r.State == poller.Stopped:
			c.Failure.What = "Last error"
		case r.Attempts > 0:
			c.Failure.What = strings.TrimSpace(fmt.Sprintf("%s failed %s in a row", stepName(r.Op), plural(r.Attempts, "time", "times")))
		}
	}
	return c
}

func stepWords(s poller.Status) string {
	switch s.State {
	case poller.Stopped:
		return "none"
	case poller.Idle, poller.Held:
		return "waits for the next poll"
	case poller.Backoff:
		return "waits to " + string(s.Op) + " again"
	}
	return string(s.Op)
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
	}
	return "Saving the checkpoint"
}
