package sinktest

import (
	"context"
	"errors"
	"slices"

	"github.com/artifactofdevotion/devotion/internal/conform"
	"github.com/artifactofdevotion/devotion/internal/parts"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

func (s *suite[T]) basics(a *handle[T]) {
	const rule = "Write stores every record, in order, before it returns"
	for _, n := range []int{1, 2, 3, 100, 1000} {
		a.mustWrite(rule, n)
	}
	empty := s.batch(0)
	s.mustSettle(a, empty, nil, a.write(s.Ctx, empty))
	a.mustWrite("Write goes on after a batch without records", 2)
}

func (s *suite[T]) contexts(a *handle[T]) {
	ended, cancel := context.WithCancel(s.Ctx)
	cancel()
	b := s.batch(3)
	texts := s.texts(b.Records)
	err := a.write(ended, b)
	if err == nil {
		s.Add("Write honours its context", "no error although the context has ended")
	}
	s.mustSettle(a, b, texts, err)
}

// interrupted ends the context of a Write at each check of it in turn.
func (s *suite[T]) interrupted(a *handle[T]) {
	for _, trip := range conform.Trips(30) {
		b := s.batch(3)
		texts := s.texts(b.Records)
		err := a.call(s.Ctx, b, func(ctx context.Context, b source.Batch[T]) error {
			return a.sink.Write(trip.On(ctx), b)
		})
		if errors.Is(err, sink.ErrConflict) || errors.Is(err, sink.ErrRejected) {
			s.Add("an interruption is neither a conflict nor a rejection", "%v", err)
		}
		s.mustSettle(a, b, texts, err)
	}
}

// mustSettle completes a batch whose Write returned err. After an error the batch
// may or may not have been stored: when it is written again, it must be stored
// once. After [sink.Stored] only the rest of it is written again. mustSettle writes
// a copy and overwrites the original, which belongs to the caller after an error.
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
		if p := parts.New(len(texts)); p.Progress(err) {
			rule = "the rest of a batch is stored when it is written"
		} else {
			err = a.write(s.Ctx, again)
		}
		if rejected, err := a.settle(again, err); err != nil || len(rejected) > 0 {
			s.Add(rule, "rejected: %v, error: %v", rejected, err)
			a.sync()
			return
		}
	}
	s.At, s.want = b.To, append(s.want, texts...)
	if s.exact {
		a.MustLoad("Write moves the cursor with the records, even without records")
	}
	s.mustRead(rule)
}

// mustBeWhole expects all of the batch to be stored, or nothing.
func (s *suite[T]) mustBeWhole(b source.Batch[T], texts []string) {
	got := s.read()
	if !slices.Equal(got, s.want) && !slices.Equal(got, append(slices.Clone(s.want), texts...)) {
		s.Add("a batch is stored whole or not at all", "of an interrupted batch of %d: %s", len(texts), conform.Difference(got, s.want))
	}
}

// lostAnswer writes a batch again, as if the answer had been lost, and then batches
// that only a caller without a Load would write.
func (s *suite[T]) lostAnswer(a *handle[T]) {
	const rule = "a Write whose answer was lost succeeds again, and stores nothing twice"
	b := s.batch(4)
	twice, longer := s.copies(b)
	shorter := source.Batch[T]{From: b.From, To: s.Fresh(), Records: slices.Clone(b.Records[:2])}

	if !a.put("Write stores every record, in order, before it returns", b) {
		return
	}
	a.MustLoad("Write moves the cursor with the records")
	if err := a.write(s.Ctx, twice); err != nil {
		s.Add(rule, "%v", err)
	}
	s.mustRead(rule)
	a.mustConflict("From is the fence, not (From, To): a longer batch is not a repetition", longer, a)
	a.mustConflict("From is the fence, not (From, To): a shorter batch is not a repetition", shorter, a)
	a.mustWrite("Write goes on after a repeated one", 1)
}

// copies returns a copy of b, and one with one more record and another To.
func (s *suite[T]) copies(b source.Batch[T]) (same, longer source.Batch[T]) {
	same, longer = b, b
	same.Records = slices.Clone(b.Records)
	s.Made++
	longer.Records = append(slices.Clone(b.Records), s.o.Record(s.Made))
	longer.To = s.Fresh()
	return same, longer
}

// mustConflict expects a batch to be refused and nothing to be stored. The witness
// is the handle that checks this by a Load.
func (h *handle[T]) mustConflict(rule string, b source.Batch[T], witness *handle[T]) {
	err := h.write(h.Ctx, b)
	switch {
	case err == nil:
		h.Add(rule, "handle %s: a batch from %q to %q was taken; stored is %q", h.Name, b.From, b.To, h.At)
		defer witness.sync()
	case !errors.Is(err, sink.ErrConflict):
		h.Add(rule+": the error wraps ErrConflict", "handle %s: %v", h.Name, err)
	}
	h.s.mustRead(rule + ": nothing is stored")
	witness.MustLoad(rule + ": the cursor stays")
}

// restart closes the sink and opens it again. An exactly-once sink must then
// refuse the records that were stored before, whatever the To of the batch.
func (s *suite[T]) restart(a *handle[T]) *handle[T] {
	const rule = "From is the fence after a restart: nothing is stored twice"
	a.mustWrite("Write stores every record, in order, before it returns", 1)
	last := s.batch(3)
	same, longer := s.copies(last)
	if !a.put("Write stores every record, in order, before it returns", last) {
		s.Stop("a sink can be closed and opened again", "not tested, because a Write failed")
	}
	a.Close()
	b := s.start()
	s.mustRead("what is stored survives closing and opening")
	if s.exact {
		b.MustLoad("the cursor was stored with the records")
		b.mustConflict(rule, longer, b)
		b.mustConflict(rule, same, b)
	}
	b.mustWrite("a sink opened again goes on", 2)
	return b
}

func (s *suite[T]) exclusive(a *handle[T]) {
	if o, err := s.o.Open(s.Ctx); err == nil {
		s.Add("a second handle is refused while one is open", "Open succeeded")
		if o.Close != nil {
			_ = o.Close()
		}
	}
	a.mustWrite("a refused second handle leaves the first alone", 1)
	a.Close()
	b := s.start()
	if s.exact {
		b.MustLoad("the cursor was stored with the records")
	}
	if err := a.write(s.Ctx, s.batch(1)); err == nil {
		s.Add("a closed handle stores nothing", "handle %s: Write succeeded", a.Name)
	}
	s.mustRead("a closed handle stores nothing")
	b.mustWrite("a closed handle does not disturb an open one", 1)
}

// lockstep has two handles write the same batch, and one handle wake up after the
// other has written.
func (s *suite[T]) lockstep(a *handle[T]) {
	const rule = "two handles in lockstep do not both store a batch"
	a.MustLoad("Load returns the stored cursor")
	b := s.start()
	b.MustLoad("Load returns the stored cursor")
	left := s.At
	mine := s.batch(3)
	theirs := mine
	theirs.Records = slices.Clone(mine.Records)
	if !a.put("a Load by another handle does not disturb", mine) {
		return
	}
	b.mustConflict(rule, theirs, s.start())
	b.MustLoad("Load returns the stored cursor")
	b.mustWrite("a handle that has loaded takes over", 2)

	a.mustConflict(rule, s.batch(1), s.start()) // its From is right, but another handle has written
	if err := a.Save(s.Ctx, s.At, s.Fresh()); !errors.Is(err, sink.ErrConflict) {
		s.Add(rule+": Save conflicts too", "handle %s: %v", a.Name, err)
	}
	late := s.batch(1)
	late.From = left
	a.mustConflict("a late handle stores nothing", late, s.start())
	a.MustLoad("Load returns the stored cursor")
	a.mustWrite("a late handle goes on once it has loaded", 1)

	b.MustLoad("Load returns the stored cursor")
	late = s.batch(1)
	for _, to := range []source.Cursor{s.Fresh(), late.From} {
		if err := a.Save(s.Ctx, s.At, to); err != nil {
			s.Add("Save moves the cursor anywhere", "handle %s: %v", a.Name, err)
			a.sync()
			return
		}
		s.At = to
	}
	b.mustConflict("a late handle stores nothing, although the cursor it loaded is back, from the same handle", late, s.start())
}
