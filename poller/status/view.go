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
	"time"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/retry"
)

//go:embed page.html page.css page.js icon-*.svg
var files embed.FS

// page has all labels. Text of other origin goes through the function line.
var page = template.Must(template.New("page.html").Funcs(template.FuncMap{
	"line": line, "count": count, "size": size, "rate": rate, "duration": duration, "step": stepName,
}).ParseFS(files, "page.html"))

// serveFile sets the content type itself: the system's table may have one for .js
// that keeps a browser from running it.
func serveFile(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", map[string]string{
		".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
	}[path.Ext(r.URL.Path)])
	content, _ := files.ReadFile(path.Base(r.URL.Path)) // ServeHTTP lists the files
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
	Totals                 totals
	Groups                 []*group
}

// totals sum up all pipelines.
type totals struct {
	Pipelines, Rows, DeadLetters, Lossy int64
	Rate                                float64
	Lag                                 string // the longest
}

// group is one card, or several that need attention for one cause.
type group struct {
	ID, Title, Cause string
	Level            level
	Open             bool
	Began            *moment // the earliest of its cards
	Cards            []reading
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
	var b bytes.Buffer
	if err := page.Execute(&b, p.view(p.read())); err != nil {
		http.Error(w, "status: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(b.Bytes())
}

func (p *Page) view(s snapshot) view {
	all, troubled := s.pipelines, 0
	slices.SortStableFunc(all, func(a, b reading) int { return cmp.Compare(b.Level, a.Level) })
	for troubled < len(all) && all[troubled].Level > ok {
		troubled++
	}
	v := view{
		Build: build, Version: line(p.Version), Level: warn, Headline: headline(all, all[:troubled]), Announcement: announcement(all, all[:troubled]),
		Now: &moment{Time: s.now}, Started: at(s.started, s.now), Totals: newTotals(all), Groups: groups(all),
	}
	if len(all) > 0 {
		v.Level = all[0].Level
	}
	return v
}

// groups puts pipelines that have one cause together. It unfolds everything if
// there is little, otherwise the first ones that need attention.
func groups(all []reading) (out []*group) {
	byCause := map[string]*group{}
	for _, r := range all {
		cause, key := r.cause()
		if g := byCause[key]; g != nil && cause != "" {
			g.Cards = append(g.Cards, r)
			g.Title = fmt.Sprintf("%d pipelines %s", len(g.Cards), plural(r.is))
			if r.Began() != nil && g.Began != nil && r.began.Before(g.Began.Time) {
				g.Began = r.Began()
			}
			continue
		}
		g := &group{ID: fmt.Sprintf("group-pipeline-%d", r.ID), Cause: cause, Level: r.Level, Began: r.Began(), Cards: []reading{r}}
		byCause[key] = g
		out = append(out, g)
	}
	for i, g := range out {
		g.Open = len(all) <= 3 || i < 3 && g.Level >= warn
		g.Cards[0].Open = g.Open && len(g.Cards) == 1
	}
	return out
}

func newTotals(all []reading) totals {
	t := totals{Pipelines: int64(len(all)), Lag: "unknown"}
	longest := time.Duration(-1)
	for _, r := range all {
		t.Rate += r.rate
		t.Rows += r.Records
		t.DeadLetters += r.DeadLetters
		if lag, known := r.Lag(r.now); known && lag > longest {
			longest, t.Lag = lag, duration(lag)
		}
		if r.Guarantee != nil && r.Guarantee.Lossy {
			t.Lossy++
		}
	}
	return t
}

// At is for page.html, as are the following methods.
func (r reading) At(t time.Time) *moment { return at(t, r.now) }

// Began is when the pipeline began to need attention.
func (r reading) Began() *moment { return at(r.began, r.now) }

// UploadError is the last error of the segment whose upload fails.
func (r reading) UploadError() string {
	if r.Uploads.Err == nil {
		return ""
	}
	return retry.Text(r.Uploads.Err)
}

// FailedOp is the step that failed last.
func (r reading) FailedOp() poller.Op { return cmp.Or(r.failing.op, r.Op) }

func stepName(op poller.Op) string {
	return cmp.Or(map[poller.Op]string{
		poller.OpLease: "Asking for the lease", poller.OpLoad: "Loading the checkpoint", poller.OpFetch: "Fetching", poller.OpWrite: "Writing",
		poller.OpDeadLetter: "Writing a dead letter", poller.OpSave: "Saving the checkpoint",
	}[op], "The loop")
}
