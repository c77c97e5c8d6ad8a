package status

import (
	"encoding/json"
	"math"
	"net/http"
	"time"
)

// report is the JSON of /status.
type report struct {
	Version   string           `json:"version,omitempty"`
	Started   time.Time        `json:"started,omitzero"`
	Now       time.Time        `json:"now"`
	Live      bool             `json:"live"`
	Ready     bool             `json:"ready"`
	Pipelines []pipelineReport `json:"pipelines"`
}

type pipelineReport struct {
	Name          string         `json:"name"`
	Summary       string         `json:"summary"`
	Live          bool           `json:"live"`
	Ready         bool           `json:"ready"`
	State         string         `json:"state"`
	Since         time.Time      `json:"since,omitzero"`
	Done          bool           `json:"done,omitempty"`
	Due           time.Time      `json:"due,omitzero"`
	Op            string         `json:"op,omitempty"`
	Started       time.Time      `json:"started,omitzero"`
	Ceiling       string         `json:"ceiling,omitempty"`
	Guarantee     string         `json:"guarantee,omitempty"`
	Lossy         *bool          `json:"lossy,omitempty"`
	Cursor        string         `json:"cursor"`
	Position      string         `json:"position,omitempty"`
	Pending       int64          `json:"pending,omitempty"`
	Pinned        int64          `json:"log_pinned_bytes,omitempty"`
	Batches       int64          `json:"batches"`
	Records       int64          `json:"records"`
	DeadLetters   int64          `json:"dead_letters"`
	LastPoll      time.Time      `json:"last_poll,omitzero"`
	LastRecord    time.Time      `json:"last_record,omitzero"`
	LastSave      time.Time      `json:"last_save,omitzero"`
	AsOf          time.Time      `json:"as_of,omitzero"`
	Lag           *float64       `json:"lag_seconds,omitempty"`
	Held          *heldReport    `json:"held,omitempty"`
	Uploads       *uploadReport  `json:"uploads,omitempty"`
	Overdue       bool           `json:"overdue"`
	Attempts      int            `json:"attempts"`
	LastError     string         `json:"last_error,omitempty"`
	LastErrorTime time.Time      `json:"last_error_time,omitzero"`
	Interval      float64        `json:"interval_seconds"`
	History       *historyReport `json:"history,omitempty"`
}

type heldReport struct {
	Since time.Time `json:"since,omitzero"`
	By    []string  `json:"by,omitempty"`
}

type uploadReport struct {
	Segments  int       `json:"segments"`
	Since     time.Time `json:"since,omitzero"`
	Lag       *float64  `json:"lag_seconds"`
	Attempts  int       `json:"attempts"`
	LastError string    `json:"last_error,omitempty"`
}

type historyReport struct {
	Step float64    `json:"step_seconds"`
	End  time.Time  `json:"end"`
	Rows []int64    `json:"rows"`
	Lag  []*float64 `json:"lag_seconds"`
}

// seconds returns d in seconds, to the millisecond.
func seconds(d time.Duration) *float64 {
	s := math.Round(float64(d)/float64(time.Millisecond)) / 1000
	return &s
}

// instant returns t in UTC, to the millisecond.
func instant(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC().Truncate(time.Millisecond)
}

func (p *Page) serveJSON(w http.ResponseWriter, r *http.Request) {
	s := p.read()
	rep := report{
		Version: p.Version, Started: instant(s.started), Now: instant(s.now),
		Live: true, Ready: len(s.pipelines) > 0, Pipelines: []pipelineReport{},
	}
	history := r.URL.Query().Has("history")
	for _, x := range s.pipelines {
		rep.Live, rep.Ready = rep.Live && x.live, rep.Ready && x.ready
		one := newPipelineReport(x)
		if history {
			one.History = newHistoryReport(x.history)
		}
		rep.Pipelines = append(rep.Pipelines, one)
	}
	w.Header().Set("Content-Type", "application/json")
	out := json.NewEncoder(w)
	if !history {
		out.SetIndent("", "  ") // people read it, too
	}
	_ = out.Encode(rep) // fails only if the client is gone
}

func newPipelineReport(x reading) pipelineReport {
	out := pipelineReport{
		Name: x.Name, Summary: x.Summary, Live: x.live, Ready: x.ready,
		State: string(x.State), Since: instant(x.Since), Done: x.Done, Due: instant(x.Due), Op: string(x.Op), Started: instant(x.Started),
		Cursor: string(x.Cursor), Position: x.Position, Pending: x.Pending, Pinned: x.Pinned, Batches: x.Batches, Records: x.Records, DeadLetters: x.DeadLetters,
		LastPoll: instant(x.LastPoll), LastRecord: instant(x.LastRecord), LastSave: instant(x.LastSave), AsOf: instant(x.AsOf),
		Overdue: x.Overdue, Attempts: x.Attempts, LastError: line(x.LastError), LastErrorTime: instant(x.LastErrorTime),
		Interval: *seconds(x.Interval),
	}
	if g := x.Guarantee; g != nil {
		out.Ceiling, out.Guarantee, out.Lossy = g.Name, g.Text, &g.Lossy
	}
	if lag, known := x.Lag(x.now); known {
		out.Lag = seconds(lag)
	}
	if x.Held != nil {
		out.Held = &heldReport{Since: instant(x.Held.Since), By: x.Held.By}
	}
	if u := x.Uploads; u.Segments > 0 {
		out.Uploads = &uploadReport{Segments: u.Segments, Since: instant(u.Since), Lag: seconds(u.Lag(x.now)), Attempts: u.Attempts, LastError: line(x.UploadError())}
	}
	return out
}

func newHistoryReport(h history) *historyReport {
	out := historyReport{Step: *seconds(step), End: instant(h.end), Rows: []int64{}, Lag: []*float64{}}
	for _, p := range h.points {
		out.Rows = append(out.Rows, p.rows)
		var lag *float64
		if p.lag >= 0 {
			lag = seconds(p.lag)
		}
		out.Lag = append(out.Lag, lag)
	}
	return &out
}
