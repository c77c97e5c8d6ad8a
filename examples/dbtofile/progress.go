package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/artifactofdevotion/devotion/poller"
)

// screen is a terminal with log lines and, below them, one line that shows the
// progress and is overwritten again and again.
type screen struct {
	out   io.Writer
	width func() int

	mu   sync.Mutex
	line string
}

// Write writes a log line above the progress.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := s.erase() + string(p) + s.line
	if _, err := io.WriteString(s.out, text); err != nil {
		return 0, err
	}
	return len(p), nil
}

// show replaces the last line. It cuts the new one to the width of the terminal,
// because a line that wraps cannot be overwritten.
func (s *screen) show(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := max(0, s.width()-1); len(line) > n {
		line = strings.ToValidUTF8(line[:n], "")
	}
	fmt.Fprint(s.out, s.erase()+line)
	s.line = line
}

// erase uses no escape sequences, which not every Windows terminal understands.
func (s *screen) erase() string {
	if s.line == "" {
		return ""
	}
	return "\r" + strings.Repeat(" ", len(s.line)) + "\r"
}

// progress returns the line that shows rows, rows per second, lag and the state.
func (m *meter) progress(s poller.Status, now time.Time) string {
	lag := "unknown"
	if d, ok := s.Lag(now); ok {
		lag = age(d)
	}
	return fmt.Sprintf("%s rows  %s rows/s  lag %s  %s",
		thousands(s.Records), thousands(m.rate(now, s.Records)), lag, s.Summary(now))
}

// watch shows the progress until the function it returns is called.
func (s *screen) watch(status func() poller.Status) (stop func()) {
	var m meter
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			s.show(m.progress(status(), time.Now()))
			select {
			case <-tick.C:
			case <-end:
				s.show("")
				return
			}
		}
	}()
	return func() { close(end); within(func() { <-ended }) }
}

// age formats a duration, such as 0.3s, 12s or 5m10s.
func age(d time.Duration) string {
	d = max(d, 0)
	if d < 10*time.Second {
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + "s"
	}
	return d.Round(time.Second).String()
}

// thousands writes 1234567 as 1,234,567.
func thousands(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// meter measures the rate of a counter over the last few seconds.
type meter struct{ samples []sample }

type sample struct {
	at    time.Time
	count int64
}

const meterWindow = 3 * time.Second

func (m *meter) rate(now time.Time, count int64) int64 {
	m.samples = append(m.samples, sample{now, count})
	for len(m.samples) > 2 && now.Sub(m.samples[1].at) >= meterWindow {
		m.samples = m.samples[1:]
	}
	first := m.samples[0]
	if d := now.Sub(first.at); d > 0 {
		return int64(float64(count-first.count)/d.Seconds() + 0.5)
	}
	return 0
}
