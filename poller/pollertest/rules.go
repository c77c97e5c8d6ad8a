package pollertest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/artifactofdevotion/devotion/internal/conform"
	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/source"
)

func (s *suite) basics(a handle) {
	a.MustLoad("Load returns the empty cursor if none was stored yet")
	a.mustStay()
	for range 3 {
		a.mustSave("Save moves the cursor from the stored one")
		a.mustStay()
	}
	a.MustLoad("Load returns the stored cursor")
	a.mustSave("Save goes on after a Load")
	a.mustConflict("Save refuses a from that is not the stored cursor", s.Fresh(), s.Fresh(), a)
	a.mustConflict("Save refuses a from that is not the stored cursor", "", s.Fresh(), a)
	a.mustSave("a handle that has loaded again goes on after a conflict")
}

// lostAnswer calls Save again as if the answer had been lost.
func (s *suite) lostAnswer(a handle) {
	const rule = "a Save whose answer was lost succeeds again, and stores nothing"
	old, from := s.At, s.Fresh()
	if !a.moveTo("Save moves the cursor from the stored one", from) {
		return
	}
	for range 2 {
		if err := a.Save(s.Ctx, old, from); err != nil {
			s.Add(rule, "handle %s: Save(%s, %s) again: %v", a.Name, conform.Short(old), conform.Short(from), err)
		}
	}
	a.mustSave("Save goes on after a repeated one")
	a.mustConflict("a Save repeated after another one is not a lost answer", old, from, a)
	old = s.At
	a.mustSave("a handle that has loaded again goes on after a conflict")
	a.mustConflict("Save(from, from) is refused after a Save of this handle whose answer was lost", old, old, a)
}

// cursors saves cursors that stores get wrong: by collation, padding, quoting and
// length.
func (s *suite) cursors(a handle) {
	var printable strings.Builder
	for c := byte(' '); c <= '~'; c++ {
		printable.WriteByte(c)
	}
	for _, c := range []source.Cursor{
		"Case", "case", "case ", " case", "0010", "10", "null", "''", `\n`, `"`, "%s", "$1", "?", ":a", "{}",
		source.Cursor(printable.String()),
		source.Cursor(strings.Repeat("x", source.MaxCursor)),
		source.Cursor(strings.Repeat("x", source.MaxCursor-1) + "y"),
	} {
		if a.moveTo("every valid cursor can be stored", c) {
			a.MustLoad("a cursor is loaded as it was saved, byte by byte")
		}
	}
	for _, pair := range [][2]source.Cursor{{"Case", "case"}, {"case", "case "}, {"10", "0010"}} {
		if a.moveTo("every valid cursor can be stored", pair[0]) {
			a.mustConflict("cursors that differ in case, blanks or zeros differ", pair[1], s.Fresh(), a)
		}
	}
	for _, c := range []source.Cursor{"a\nb", "a\x00b", "ä", "\x7f", source.Cursor(strings.Repeat("x", source.MaxCursor+1))} {
		if err := a.Save(s.Ctx, s.At, c); err == nil {
			s.Add("an invalid cursor is refused", "Save(…, %s) succeeded", conform.Short(c))
		}
		a.MustLoad("an invalid cursor is refused and not stored")
	}
	a.mustSave("Save goes on after an invalid cursor")
}

func (s *suite) contexts(a handle) {
	ended, cancel := context.WithCancel(s.Ctx)
	cancel()
	if _, err := a.Load(ended); err == nil {
		s.Add("Load honours its context", "no error although the context has ended")
	}
	to := s.Fresh()
	switch err := a.Save(ended, s.At, to); {
	case err == nil:
		s.Add("Save honours its context", "no error although the context has ended")
	case errors.Is(err, poller.ErrConflict):
		s.Add("ErrConflict is for conflicts alone", "a context that has ended: %v", err)
	}
	s.again(a, to, "with a context that had ended")
}

// interrupted ends the context of a Save at each check of it in turn.
func (s *suite) interrupted(a handle) {
	for _, trip := range conform.Trips(30) {
		to := s.Fresh()
		err := conform.Do(s.Ctx, func(ctx context.Context) error {
			return a.Checkpointer.Save(trip.On(ctx), s.At, to)
		})
		s.Watch("Save", err)
		if errors.Is(err, poller.ErrConflict) {
			s.Add("ErrConflict is for conflicts alone", "an interrupted Save: %v", err)
		}
		if err == nil {
			s.At = to
			a.MustLoad("a Save that is interrupted and succeeds has stored")
		} else {
			s.again(a, to, "interrupted")
		}
	}
}

// again saves once more what a Save may or may not have stored.
func (s *suite) again(a handle, to source.Cursor, what string) {
	if err := a.Save(s.Ctx, s.At, to); err != nil {
		s.Add("the caller saves again after an error", "after a Save %s: %v", what, err)
		a.Sync()
		return
	}
	s.At = to
	a.MustLoad("the caller saves again after an error")
}

// restart closes the handle and opens another one.
func (s *suite) restart(a handle) handle {
	a.Sync()
	before, last := s.At, s.Fresh()
	if err := a.Save(s.Ctx, before, last); err != nil {
		s.Stop("Save goes on after a Load", "%v", err)
	}
	s.At = last
	a.Close()
	b := s.start()
	b.MustLoad("a stored cursor survives closing and opening")
	b.mustConflict("what another handle saved is not a lost answer of this one", before, last, b)
	b.mustStay()
	b.mustSave("a new handle goes on where the old one was")
	return b
}

func (s *suite) exclusive(a handle) handle {
	if o, err := s.o.Open(s.Ctx); err == nil {
		s.Add("a second handle is refused while one is open", "Open succeeded")
		if o.Close != nil {
			_ = o.Close()
		}
	}
	a.mustSave("a refused second handle leaves the first alone")
	a.Close()
	b := s.start()
	b.MustLoad("a stored cursor survives closing and opening")
	if err := a.Save(s.Ctx, s.At, s.Fresh()); err == nil {
		s.Add("a closed handle saves nothing", "handle %s: Save succeeded", a.Name)
	}
	b.mustSave("a closed handle does not disturb an open one")
	b.MustLoad("a closed handle saves nothing")
	return b
}

// lockstep has two handles save the same cursor, one after the other. Each finds
// the cursor where it left it.
func (s *suite) lockstep(a handle) {
	const rule = "two handles in lockstep do not both succeed"
	a.MustLoad("Load returns the stored cursor")
	b := s.start()
	b.MustLoad("Load returns the stored cursor")
	from, to := s.At, s.Fresh()
	if !a.moveTo("a Load by another handle does not disturb", to) {
		return
	}
	b.mustConflict(rule, from, to, s.start())

	b.MustLoad("Load returns the stored cursor")
	b.mustSave("a handle that has loaded takes over")
	a.mustConflict(rule, s.At, s.Fresh(), s.start())
	a.MustLoad("Load returns the stored cursor")
	a.mustSave("a handle that has loaded takes over")
}

// late has a handle wake up after others have moved the cursor, also back to where
// it left it.
func (s *suite) late(a handle) {
	a.MustLoad("Load returns the stored cursor")
	left := s.At
	b := s.start()
	b.MustLoad("Load returns the stored cursor")
	b.mustSave("a handle that has loaded takes over")
	a.mustConflict("a late handle cannot save", left, s.Fresh(), s.start())
	if !b.moveTo("Save moves the cursor anywhere", left) {
		return
	}
	a.mustConflict(movedAndBack, left, left, s.start())
	a.mustConflict("a late handle cannot save, although the cursor is back where it was", left, s.Fresh(), s.start())
	a.MustLoad("Load returns the stored cursor") // as b stored it
	b.mustSave("a Load by another handle does not disturb")
	if !b.moveTo("Save moves the cursor anywhere", left) {
		return
	}
	a.mustConflict(movedAndBack, left, left, s.start())
	a.mustConflict("a late handle cannot save, although the cursor it loaded is back, from the same handle", left, s.Fresh(), s.start())
	a.MustLoad("Load returns the stored cursor")
	a.mustSave("a late handle goes on once it has loaded")
}

// race has several handles save at the same time: one succeeds.
func (s *suite) race() {
	handles := []handle{s.start(), s.start(), s.start(), s.start()}
	for round := range 10 {
		same := s.Fresh()
		to := make([]source.Cursor, len(handles))
		for i, h := range handles {
			h.MustLoad("Load returns the stored cursor")
			if to[i] = same; round%2 == 0 {
				to[i] = s.Fresh()
			}
		}
		errs := make([]error, len(handles))
		var all sync.WaitGroup
		for i, h := range handles {
			all.Go(func() { errs[i] = s.persist(h, s.At, to[i]) })
		}
		all.Wait()
		won := 0
		for i, err := range errs {
			if err == nil {
				won, s.At = won+1, to[i]
			} else if !errors.Is(err, poller.ErrConflict) {
				s.Add("a race ends in one success and conflicts", "handle %s: %v", handles[i].Name, err)
				handles[0].Sync()
				return
			}
		}
		if won != 1 {
			s.Add("of handles that save at the same time one succeeds", "%d of %d did", won, len(handles))
			handles[0].Sync()
		}
		handles[0].MustLoad("after a race the cursor of the successful Save is stored")
	}
}

// persist saves as a Poller does: it retries errors that are not conflicts, such
// as those of a busy store.
func (s *suite) persist(h handle, from, to source.Cursor) (err error) {
	for try := range 50 {
		err = conform.Do(s.Ctx, func(ctx context.Context) error { return h.Checkpointer.Save(ctx, from, to) })
		if err == nil || errors.Is(err, poller.ErrConflict) || errors.Is(err, conform.ErrStuck) || errors.Is(err, conform.ErrPanic) {
			return err
		}
		select {
		case <-time.After(time.Duration(try) * time.Millisecond):
		case <-s.Ctx.Done():
			return err
		}
	}
	return err
}

func (s *suite) rewind(a handle) {
	set := func(to source.Cursor) bool {
		if err := s.o.Rewind(s.Ctx, to); err != nil {
			s.Add("a person can rewind", "to %s: %v", conform.Short(to), err)
			return false
		}
		s.At = to
		return true
	}
	a.MustLoad("Load returns the stored cursor")
	first := s.At
	a.mustSave("Save goes on after a Load")
	at := s.At
	if !set(first) {
		return
	}
	a.mustConflict("after a rewind no handle saves without loading", at, s.Fresh(), a)
	a.mustSave("a handle goes on from where it was rewound to, once it has loaded")

	if at = s.At; !set(at) {
		return
	}
	a.mustConflict("a rewind to where the cursor is counts as one", at, s.Fresh(), a)

	a.mustStay()
	if at = s.At; !set(at) {
		return
	}
	a.mustConflict("Save(from, from) is refused after a rewind, also to where the cursor is", at, at, a)

	at = s.At
	to := s.Fresh()
	if !set(to) {
		return
	}
	a.mustConflict("a rewind to where a handle would go is not a lost answer of it", at, to, a)
	if set("") {
		a.MustLoad("a rewind to the empty cursor starts over")
		a.mustSave("a handle goes on from the empty cursor")
	}
}
