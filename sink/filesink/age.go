package filesink

import (
	"context"
	"sync"
	"time"
)

// ageRetry is the time after which a seal that failed is retried.
const ageRetry = 10 * time.Second

// ageTimer seals the open segment at SegmentAge, even if no more records come.
type ageTimer struct {
	timer   *time.Timer
	at      time.Time // when it fires; zero if it is not set
	number  int       // how many timers were set
	failing bool

	closing context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup // one for a timer that is set or works
}

// watchAge sets the timer for the open segment. The caller has the turn.
func (s *store) watchAge() {
	if s.age == 0 || s.closed {
		return
	}
	if s.cp.Offset == 0 {
		s.due.stop()
		return
	}
	if now := s.now().UTC(); s.cp.Opened.After(now) {
		s.cp.Opened = now // the clock was set back
	}
	at := s.cp.Opened.Add(s.age)
	if s.due.failing {
		at = s.now().Add(ageRetry)
	}
	if !s.due.at.IsZero() && (s.due.failing || s.due.at.Equal(at)) {
		return
	}
	s.due.stop()
	s.due.at = at
	s.due.number++
	number := s.due.number
	s.due.running.Add(1)
	s.due.timer = time.AfterFunc(at.Sub(s.now()), func() { s.expire(number) })
}

func (t *ageTimer) stop() {
	if t.timer != nil && t.timer.Stop() {
		t.running.Done()
	}
	t.timer, t.at = nil, time.Time{}
}

// expire seals the open segment if it is due. The timer with that number calls it.
// Another timer may have been set while it waited for its turn.
func (s *store) expire(number int) {
	defer s.due.running.Done()
	select {
	case s.turn <- struct{}{}:
	case <-s.due.closing.Done():
		return
	}
	defer s.end()
	if s.closed || number != s.due.number {
		return
	}
	s.due.timer, s.due.at = nil, time.Time{}
	err := s.ready()
	if err == nil && s.cp.Offset > 0 && s.now().Sub(s.cp.Opened) >= s.age {
		err = s.seal()
	}
	switch {
	case err != nil && !s.due.failing:
		s.logger.Warn("cannot seal segment, will retry", "op", "seal", "dir", s.path, "err", err)
	case err == nil && s.due.failing:
		s.logger.Info("segment sealed after retry", "op", "seal", "dir", s.path)
	}
	s.due.failing = err != nil
}
