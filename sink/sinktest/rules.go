package sinktest

import (
	"context"
	"errors"
	"slices"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest/conform"
)

func (s *suite[T]) basics(a *handle[T]) {
	const rule = "Write stores every record, in order, before it returns"
	for _, n := range []int{1, 2, 3, 100, 1000} {
		a.mustWrite(rule, n)
	}
	empty := s.batch(0)
	s.mustSettle(a, empty, nil, a.write(s.ctx, empty))
	a.mustWrite("Write goes on after a batch without records", 2)
}

func (s *suite[T]) contexts(a *handle[T]) {
	gone, cancel := context.WithCancel(s.ctx)
	cancel()
	b := s.batch(3)
	texts := s.texts(b.Records)
	err := a.write(gone, b)
	if err == nil {
		s.Add("Write honours its context", "no error though the context has ended")
	}
	s.mustSettle(a, b, texts, err)
}

// interrupted ends the context of a Write wherever it looks at it.
func (s *suite[T]) interrupted(a *handle[T]) {
	for n := 1; n <= 30; n++ {
		b := s.batch(3)
		texts := s.texts(b.Records)
		var tripped func() bool
		err := a.call(s.ctx, b, func(ctx context.Context, b source.Batch[T]) error {
			trip, asked, cancel := conform.Trip(ctx, n)
			defer cancel()
			tripped = asked
			return a.Sink.Write(trip, b)
		})
		if errors.Is(err, poller.ErrConflict) || errors.Is(err, sink.ErrRejected) {
			s.Add("an interruption is neither a conflict nor a rejection", "%v", err)
		}
		s.mustSettle(a, b, texts, err)
		if !tripped() {
			return
		}
	}
}

// mustSettle takes a batch to its end whose Write returned err. After an error
// it may or may not have been stored: written again, it is there once. What is
// written again is a copy, and the original, which was the caller's again, is
// overwritten.
func (s *suite[T]) mustSettle(a *handle[T], b source.Batch[T], texts []string, err error) {
	rule := "a Write that is interrupted and succeeds has stored"
	if err != nil {
		rule = "the same batch written again after an error is stored"
		again := b
		again.Records = slices.Clone(b.Records)
		clear(b.Records)
		if s.exact {
			s.mustBeWhole(b, texts)
		}
		if err := a.write(s.ctx, again); err != nil {
			s.Add(rule, "%v", err)
			a.sync()
			return
		}
	}
	s.cursor, s.want = b.To, append(s.want, texts...)
	if s.exact {
		a.mustLoad("Write moves the cursor with the records, and alone if there are none")
	}
	s.mustRead(rule)
}

// mustBeWhole wants all of the batch stored or nothing.
func (s *suite[T]) mustBeWhole(b source.Batch[T], texts []string) {
	got := s.read()
	if !slices.Equal(got, s.want) && !slices.Equal(got, append(slices.Clone(s.want), texts...)) {
		s.Add("a batch is stored whole or not at all", "of an interrupted batch of %d: %s", len(texts), difference(got, s.want))
	}
}

func (s *suite[T]) poison(a *handle[T]) {
	bad := s.batch(2)
	bad.Records = []T{bad.Records[0], s.o.Poison(), bad.Records[1]}
	good := bad
	good.Records = slices.Clone(bad.Records[:1])
	switch err := a.write(s.ctx, bad); {
	case err == nil:
		s.Add("a poisoned record is refused", "Write succeeded")
		a.sync()
		return
	case !errors.Is(err, sink.ErrRejected):
		s.Add("a poisoned record is refused with sink.Reject", "%v", err)
	}
	s.mustRead("a rejection promises that nothing was stored")
	if s.exact {
		a.mustLoad("a rejection promises that nothing was stored")
	}
	good.To = s.fresh()
	texts := s.texts(good.Records)
	if err := a.write(s.ctx, good); err != nil {
		s.Add("after a rejection a shorter batch with the same From can be written", "%v", err)
		a.sync()
		return
	}
	s.cursor, s.want = good.To, append(s.want, texts...)
	s.mustRead("after a rejection a shorter batch with the same From can be written")
	if s.exact { // a poisoned record is skipped by Save alone
		to := s.fresh()
		if err := a.save(s.cursor, to); err != nil {
			s.Add("Save moves the cursor past a refused record", "%v", err)
			a.sync()
		} else {
			s.cursor = to
		}
		a.mustLoad("Save moves the cursor past a refused record")
	}
	a.mustWrite("Write goes on after a rejection", 2)
}

// lostAnswer writes again as if the answer had been lost, and then what only one
// who has not loaded would write.
func (s *suite[T]) lostAnswer(a *handle[T]) {
	const rule = "a Write whose answer was lost succeeds again, and stores nothing twice"
	b := s.batch(4)
	twice, longer := b, b
	twice.Records, longer.Records = slices.Clone(b.Records), append(slices.Clone(b.Records), s.o.Record(s.made+1))
	s.made++
	longer.To = s.fresh()
	shorter := source.Batch[T]{From: b.From, To: s.fresh(), Records: slices.Clone(b.Records[:2])}

	texts := s.texts(b.Records)
	if err := a.write(s.ctx, b); err != nil {
		s.Add("Write stores every record, in order, before it returns", "%v", err)
		a.sync()
		return
	}
	s.cursor, s.want = b.To, append(s.want, texts...)
	a.mustLoad("Write moves the cursor with the records")
	if err := a.write(s.ctx, twice); err != nil {
		s.Add(rule, "%v", err)
	}
	s.mustRead(rule)
	a.mustConflict("From is the fence, not (From, To): a longer batch is no repetition", longer, a)
	a.mustConflict("From is the fence, not (From, To): a shorter batch is no repetition", shorter, a)
	a.mustWrite("Write goes on after a repeated one", 1)
}

// mustConflict wants a batch to be refused and nothing to be stored. The witness
// loads, and knows where the storage is from then on.
func (h *handle[T]) mustConflict(rule string, b source.Batch[T], witness *handle[T]) {
	err := h.write(h.s.ctx, b)
	switch {
	case err == nil:
		h.s.Add(rule, "handle %s: a batch from %q to %q was taken; stored is %q", h.name, b.From, b.To, h.s.cursor)
		defer witness.sync()
	case !errors.Is(err, poller.ErrConflict):
		h.s.Add(rule+": the error wraps ErrConflict", "handle %s: %v", h.name, err)
	}
	h.s.mustRead(rule + ": nothing is stored")
	witness.mustLoad(rule + ": the cursor stays")
}

// restart opens the sink anew. An exactly-once sink must refuse what the process
// before had stored, whatever its To.
func (s *suite[T]) restart(a *handle[T]) *handle[T] {
	const rule = "From is the fence after a restart: nothing is stored twice"
	a.mustWrite("Write stores every record, in order, before it returns", 1)
	last := s.batch(3)
	same, longer := last, last
	same.Records = slices.Clone(last.Records)
	longer.Records = append(slices.Clone(last.Records), s.o.Record(s.made+1))
	s.made++
	longer.To = s.fresh()
	texts := s.texts(last.Records)
	if err := a.write(s.ctx, last); err != nil {
		s.stop("Write stores every record, in order, before it returns", "%v", err)
	}
	s.cursor, s.want = last.To, append(s.want, texts...)
	a.close()
	b := s.start()
	s.mustRead("what is stored survives closing and opening")
	if s.exact {
		b.mustLoad("the cursor was stored with the records")
		b.mustConflict(rule, longer, b)
		b.mustConflict(rule, same, b)
	}
	b.mustWrite("a sink opened again goes on", 2)
	return b
}

func (s *suite[T]) exclusive(a *handle[T]) {
	if o, err := s.o.Open(s.ctx); err == nil {
		s.Add("a second handle is refused while one is open", "Open succeeded")
		if o.Close != nil {
			_ = o.Close()
		}
	}
	a.mustWrite("a refused second handle leaves the first alone", 1)
	a.close()
	b := s.start()
	if s.exact {
		b.mustLoad("the cursor was stored with the records")
	}
	if err := a.write(s.ctx, s.batch(1)); err == nil {
		s.Add("a closed handle stores nothing", "handle %s: Write succeeded", a.name)
	}
	s.mustRead("a closed handle stores nothing")
	b.mustWrite("a closed handle does not disturb an open one", 1)
}

// lockstep lets two handles write the same, and a handle wake up after another
// has written.
func (s *suite[T]) lockstep(a *handle[T]) {
	const rule = "two handles in lockstep do not both store a batch"
	a.mustLoad("Load returns the stored cursor")
	b := s.start()
	b.mustLoad("Load returns the stored cursor")
	left := s.cursor
	mine := s.batch(3)
	theirs := mine
	theirs.Records = slices.Clone(mine.Records)
	texts := s.texts(mine.Records)
	if err := a.write(s.ctx, mine); err != nil {
		s.Add("a Load by another handle does not disturb", "handle %s: %v", a.name, err)
		return
	}
	s.cursor, s.want = mine.To, append(s.want, texts...)
	b.mustConflict(rule, theirs, s.start())
	b.mustLoad("Load returns the stored cursor")
	b.mustWrite("a handle that has loaded takes over", 2)

	a.mustConflict(rule, s.batch(1), s.start()) // its From fits, but another handle has written
	if err := a.save(s.cursor, s.fresh()); !errors.Is(err, poller.ErrConflict) {
		s.Add(rule+": Save conflicts too", "handle %s: %v", a.name, err)
	}
	behind := s.batch(1)
	behind.From = left
	a.mustConflict("a handle left behind stores nothing", behind, s.start())
	a.mustLoad("Load returns the stored cursor")
	a.mustWrite("a handle left behind goes on once it has loaded", 1)
}
