package sinktest

import (
	"errors"
	"slices"

	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// progress returns how many records of a batch are stored according to the error of
// its Write, if the sink reports that.
func progress(err error) (n int, partly bool) {
	var stored *sink.StoredError
	if !errors.As(err, &stored) {
		return 0, false
	}
	return stored.N, true
}

// checkError checks what is true of the error of every Write.
func (h *handle[T]) checkError(b source.Batch[T], err error) {
	if n, partly := progress(err); partly {
		if h.s.exact {
			h.Stop("an exactly-once sink stores all of a batch or none: it never uses sink.Stored", "%v", err)
		}
		if n < 0 || n > len(b.Records) {
			h.Stop("sink.Stored counts records of the batch", "%d of a batch of %d", n, len(b.Records))
		}
	}
	if errors.Is(err, sink.ErrTooLarge) && (h.s.o.Limit == 0 || len(b.Records) <= h.s.o.Limit) && !h.s.poisoned {
		h.Add("a batch within Options.Limit is not too large", "%d records, the limit is %d: %v", len(b.Records), h.s.o.Limit, err)
	}
}

// mustHave expects that the first records of a batch are stored, as the sink said,
// and perhaps others of the same batch.
func (s *suite[T]) mustHave(first, others []string) {
	const rule = "sink.Stored(n, err) says that the first n records are stored, and record n is not"
	got := s.read()
	known := make(map[string]bool)
	for _, texts := range [][]string{s.want, first, others} {
		for _, text := range texts {
			known[text] = true
		}
	}
	for _, text := range got {
		switch {
		case len(others) > 0 && text == others[0]:
			s.Add(rule, "record %d is stored: %s", len(first), text)
		case !known[text]:
			s.Add(rule, "something else is stored: %s", text)
		}
	}
	for i, text := range first {
		if !slices.Contains(got, text) {
			s.Add(rule, "record %d of %d is missing: %s", i, len(first), text)
		}
	}
	s.want = append(s.want, first...)
}

// limit writes a batch that is too large for the sink, and then one that just fits.
func (s *suite[T]) limit(a *handle[T]) {
	b := s.batchOf(s.o.Limit + 1)
	fits := b
	fits.Records = slices.Clone(b.Records[:s.o.Limit])
	switch err := a.write(s.Ctx, b); {
	case err == nil:
		s.Add("a batch above Options.Limit is refused", "Write succeeded with %d records", s.o.Limit+1)
		a.sync()
		return
	case !errors.Is(err, sink.ErrTooLarge):
		s.Add("a batch above Options.Limit is refused with sink.TooLarge", "%v", err)
	}
	const nothing = "sink.TooLarge promises that nothing was stored"
	s.mustRead(nothing)
	if s.exact {
		a.MustLoad(nothing)
	}
	const rule = "after sink.TooLarge a shorter batch with the same From can be written"
	fits.To, fits.ID = s.Fresh(), b.ID+1
	s.id++
	if a.put(rule, fits) {
		s.mustRead(rule)
	}
	a.mustWrite("Write goes on after a batch that was too large", 2)
}

// poison writes a batch with a record that the sink refuses.
func (s *suite[T]) poison(a *handle[T]) {
	s.poisoned = true // it may be refused because it is too large
	s.read()
	before := s.stored
	bad := s.batch(3)
	bad.Records[1] = s.o.Poison()
	good := bad
	good.Records = slices.Clone(bad.Records)
	err := a.write(s.Ctx, bad)
	s.poisoned = false
	switch {
	case err == nil:
		s.Add("a poisoned record is refused", "Write succeeded")
		a.sync()
		return
	case !errors.Is(err, sink.ErrRejected) && !errors.Is(err, sink.ErrTooLarge):
		s.Add("a poisoned record is refused with sink.Reject", "%v", err)
	}
	if n, partly := progress(err); partly {
		s.rest(a, good, n, before)
		s.notTheRest(a)
		return
	}
	s.mustRead("a rejection promises that nothing was stored")
	if s.exact {
		a.MustLoad("a rejection promises that nothing was stored")
	}
	s.id++
	good.Records, good.To, good.ID = good.Records[:1], s.Fresh(), s.id
	const rule = "after a rejection a shorter batch with the same From can be written"
	if !a.put(rule, good) {
		return
	}
	s.mustRead(rule)
	if s.exact { // Save alone skips a poisoned record
		to := s.Fresh()
		if err := a.Save(s.Ctx, s.At, to); err != nil {
			s.Add("Save moves the cursor past a refused record", "%v", err)
			a.sync()
		} else {
			s.At = to
		}
		a.MustLoad("Save moves the cursor past a refused record")
	}
	a.mustWrite("Write goes on after a rejection", 2)
}

// rest writes what follows the poisoned record of a batch, after a sink has named
// that record. Before is how many records were stored before the batch.
func (s *suite[T]) rest(a *handle[T], b source.Batch[T], n, before int) {
	if n != 1 {
		s.Stop("sink.Stored(n, sink.Reject(err)) names record n as the refused one", "the poisoned record is record 1, and n is %d", n)
	}
	texts := s.texts(b.Records)
	s.mustHave(texts[:1], append([]string{texts[1]}, texts[2:]...))
	b.Records = b.Records[2:]
	const rule = "after sink.Stored(n, sink.Reject(err)) the records after record n can be written"
	if !a.put(rule, b) {
		return
	}
	s.mustRead(rule)
	if s.stored > before+2 {
		s.Add("no record is stored twice by a sink that reports its progress", "%d records were stored for 2, in a batch with a poisoned record", s.stored-before)
	}
}

// notTheRest writes a batch with a poisoned record, and then another batch instead of
// the rest, as after a restart of the pipeline.
func (s *suite[T]) notTheRest(a *handle[T]) {
	bad := s.batch(4)
	bad.Records[0] = s.o.Poison()
	s.poisoned = true
	_ = a.write(s.Ctx, bad)
	s.poisoned = false
	a.sync() // a sink may have stored what follows the poisoned record
	a.mustWrite("a batch with another ID is not the rest of the batch before", 3)
}
