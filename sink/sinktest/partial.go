package sinktest

import (
	"errors"
	"slices"

	"github.com/artifactofdevotion/devotion/internal/chain"
	"github.com/artifactofdevotion/devotion/internal/parts"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// settle goes on with a batch whose Write returned err, as the Poller does: after
// progress it writes the rest. It returns the indexes of the rejected records, and nil
// once all others are stored, or the error of a Write that made no progress.
func (h *handle[T]) settle(b source.Batch[T], err error) (rejected []int, _ error) {
	if err == nil {
		return nil, nil // the records belong to the sink
	}
	p, texts, part := parts.New(len(b.Records)), h.s.texts(b.Records), b
	b.Records = slices.Clone(b.Records)
	var stored []string
	for ; err != nil && p.Progress(err); err = h.write(h.Ctx, part) {
		_ = p.Settle(err, func(i int, rejection error) error {
			switch {
			case rejection == nil:
				stored = append(stored, texts[i])
			case h.s.poisoned && i != 1:
				h.Stop("sink.Stored(n, sink.Reject(err)) names record n as the refused one", "the poisoned record is record 1, and n is %d", i)
			default:
				rejected = append(rejected, i)
			}
			return nil
		})
		h.s.mustHave(texts, stored)
		if len(p.Rest) == 0 {
			return rejected, nil
		}
		part.Records = parts.Next(p, b.Records)
	}
	return rejected, err
}

// checkError checks what is true of the error of every Write.
func (h *handle[T]) checkError(b source.Batch[T], err error) {
	p, partly := chain.As[*sink.StoredError](err)
	if !partly && errors.As(err, &p) {
		h.Add("the error of sink.Stored is not joined with others: the Poller does not believe it then", "%v", err)
	}
	if partly {
		if h.s.exact {
			h.Stop("an exactly-once sink stores all of a batch or none: it never uses sink.Stored", "%v", err)
		}
		if p.N < 0 || p.N > len(b.Records) {
			h.Stop("sink.Stored counts records of the batch", "%d of a batch of %d", p.N, len(b.Records))
		}
		for i, err := range p.Others {
			if i <= p.N || i >= len(b.Records) {
				h.Stop("StoredError.Others is about records after record N", "N is %d, the batch has %d, and Others has record %d", p.N, len(b.Records), i)
			}
			if err != nil && !errors.Is(err, sink.ErrRejected) {
				h.Stop("StoredError.Others has stored and rejected records only", "record %d: %v", i, err)
			}
		}
	}
	if errors.Is(err, sink.ErrTooLarge) && (h.s.o.Limit == 0 || len(b.Records) <= h.s.o.Limit) && !h.s.poisoned {
		h.Add("a batch within Options.Limit is not too large", "%d records, the limit is %d: %v", len(b.Records), h.s.o.Limit, err)
	}
}

// mustHave expects that of the records of a batch those are stored of which the sink
// said so, and no others.
func (s *suite[T]) mustHave(texts, stored []string) {
	const rule = "sink.Stored(n, err) says that the first n records are stored, and record n is not"
	got := s.read()
	expected, found := make(map[string]bool), make(map[string]bool)
	for _, text := range slices.Concat(s.want, stored) {
		expected[text] = true
	}
	for _, text := range got {
		found[text] = true
		switch {
		case expected[text]:
		case slices.Contains(texts, text):
			s.Add(rule+", and Others which of the others", "record %d is stored: %s", slices.Index(texts, text), text)
		default:
			s.Add(rule, "something else is stored: %s", text)
		}
	}
	for _, text := range stored {
		if !found[text] {
			s.Add(rule, "record %d of %d is missing: %s", slices.Index(texts, text), len(stored), text)
		}
	}
}

// limit writes a batch that is too large for the sink, and then one that just fits.
func (s *suite[T]) limit(a *handle[T]) {
	b := s.batchOf(s.o.Limit + 1)
	fits := b
	fits.Records = slices.Clone(b.Records[:s.o.Limit])
	texts, err := s.texts(b.Records), a.write(s.Ctx, b)
	if all := parts.New(len(b.Records)); err != nil && all.Stored(err) && errors.Is(err, sink.ErrTooLarge) {
		s.mustSettle(a, b, texts, err)
		return
	}
	switch {
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
	fits.To = s.Fresh()
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
	good, texts := bad, s.texts(bad.Records)
	good.Records = slices.Clone(bad.Records)
	rejected, err := a.settle(bad, a.write(s.Ctx, bad))
	s.poisoned = false
	switch {
	case len(rejected) > 0:
		s.rest(a, texts, err, bad.To, before)
		return
	case err == nil:
		s.Add("a poisoned record is refused", "Write succeeded")
		a.sync()
		return
	case !errors.Is(err, sink.ErrRejected) && !errors.Is(err, sink.ErrTooLarge):
		s.Add("a poisoned record is refused with sink.Reject", "%v", err)
	}
	s.mustRead("a rejection promises that nothing was stored")
	if s.exact {
		a.MustLoad("a rejection promises that nothing was stored")
	}
	good.Records, good.To = good.Records[:1], s.Fresh()
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

// rest checks what became of a batch in which the sink has named the poisoned record.
// Before is how many records were stored before.
func (s *suite[T]) rest(a *handle[T], texts []string, err error, to source.Cursor, before int) {
	const rule = "after sink.Stored(n, sink.Reject(err)) the records after record n can be written"
	if err != nil {
		s.Add(rule, "handle %s: %v", a.Name, err)
		a.sync()
		return
	}
	s.At, s.want = to, append(s.want, texts[0], texts[2])
	s.mustRead(rule)
	if s.stored > before+2 {
		s.Add("no record is stored twice by a sink that reports its progress", "%d records were stored for 2, in a batch with a poisoned record", s.stored-before)
	}
}
