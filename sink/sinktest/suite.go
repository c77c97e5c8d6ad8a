package sinktest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/artifactofdevotion/devotion/internal/conform"
	"github.com/artifactofdevotion/devotion/internal/parts"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// Checkpointer is poller.Checkpointer. It stands here too, because sinks do not
// import package poller.
type Checkpointer interface {
	Load(ctx context.Context) (source.Cursor, error)
	Save(ctx context.Context, from, to source.Cursor) error
}

// Opened is a sink that has been opened: a handle.
type Opened[T any] struct {
	Sink sink.Sink[T]

	// Checkpointer is the same value as Sink, for a sink that promises exactly
	// once. Nil tests a sink that stores records alone.
	Checkpointer Checkpointer

	Close func() error // nil if there is nothing to close
}

// Options say what [TestSink] tests.
type Options[T any] struct {
	// Open opens the sink on one storage, the same at each call, as when a
	// process starts. The storage is empty at the first call.
	Open func(ctx context.Context) (Opened[T], error)

	// Read returns the stored records, in order. It is called right after a Write,
	// while a handle is open: stored records must be readable at once. For a sink
	// that stores several records at the same time, Read sorts them.
	Read func(ctx context.Context) ([]T, error)

	// Record makes a record for the test, a different one for each i.
	Record func(i int) T

	// Poison makes a record that the sink refuses. Nil leaves that untested.
	Poison func() T

	// Limit is how many records the sink can store at once, if it has such a limit:
	// it must refuse one more with [sink.TooLarge]. At least 5. 0 means no limit.
	Limit int

	// Text renders a record. Two records are the same if their texts are equal.
	// Defaults to JSON; fields that encoding/json leaves out are not compared.
	Text func(T) string

	// Exclusive says that Open must refuse a second handle while one is open,
	// as with a file lock. A closed handle then takes the place of a process that
	// wakes up late.
	Exclusive bool
}

// TestSink checks a sink against every sentence of [sink.Sink] that can be
// checked from outside. It returns an error that names each one broken, or nil.
// A sink that is passed as Checkpointer too must store each batch with its
// cursor, both or neither, exactly once. pollertest.TestCheckpointer checks it as
// a checkpointer.
//
//	err := sinktest.TestSink(t.Context(), sinktest.Options[Order]{Open: open, Read: read, Record: order})
func TestSink[T any](ctx context.Context, o Options[T]) error {
	if o.Open == nil || o.Read == nil || o.Record == nil {
		return errors.New("sinktest: Options.Open, Read and Record must be set")
	}
	if o.Limit < 0 || o.Limit > 0 && o.Limit < 5 {
		return fmt.Errorf("sinktest: Options.Limit is %d: set it to 5 or more, or to 0 for a sink without a limit", o.Limit)
	}
	if o.Text == nil {
		o.Text = conform.JSON[T]
	}
	return conform.Run(ctx, "sinktest", func(c *conform.Suite) {
		s := &suite[T]{Checkpoint: &conform.Checkpoint{Suite: c}, o: o}
		s.run()
	})
}

type suite[T any] struct {
	*conform.Checkpoint
	o Options[T]

	exact  bool     // exactly once is promised
	want   []string // the records that should be stored, each once
	stored int      // how many records are stored, repeated ones included

	poisoned bool // the batch that is being written has a poisoned record
}

func (s *suite[T]) run() {
	if s.o.Text(s.o.Record(1)) == s.o.Text(s.o.Record(2)) {
		s.Stop("Options.Record makes another record for each i", "for 1 and 2: %s", s.o.Text(s.o.Record(1)))
	}
	a := s.start()
	s.exact = a.Checkpointer != nil
	if s.exact {
		a.MustLoad("the storage is empty at first")
	}
	s.mustRead("the storage is empty at first")
	s.basics(a)
	s.contexts(a)
	s.interrupted(a)
	if s.o.Limit > 0 {
		s.limit(a)
	}
	if s.o.Poison != nil {
		s.poison(a)
	}
	if s.exact {
		s.lostAnswer(a)
	}
	a = s.restart(a)
	switch {
	case s.o.Exclusive:
		s.exclusive(a)
	case s.exact:
		s.lockstep(a)
	}
}

// handle is an open sink.
type handle[T any] struct {
	*conform.Handle
	s    *suite[T]
	sink sink.Sink[T]
}

func (s *suite[T]) start() *handle[T] {
	o, err := s.o.Open(s.Ctx)
	if err != nil {
		s.Stop("the sink can be opened", "%v", err)
	}
	if o.Sink == nil {
		s.Stop("Options.Open sets Opened.Sink", "it is nil")
	}
	return &handle[T]{s.Handle(o.Checkpointer, "the sink can be closed", o.Close), s, o.Sink}
}

// batch makes a batch of n new records after what is stored, or of fewer if the
// sink has a limit: then one more record fits.
func (s *suite[T]) batch(n int) source.Batch[T] {
	if s.o.Limit > 0 {
		n = min(n, s.o.Limit-1)
	}
	return s.batchOf(n)
}

func (s *suite[T]) batchOf(n int) source.Batch[T] {
	b := source.Batch[T]{From: s.At}
	for range n {
		s.Made++
		b.Records = append(b.Records, s.o.Record(s.Made))
	}
	b.To = s.Fresh()
	return b
}

func (s *suite[T]) texts(records []T) []string { return conform.Texts(records, s.o.Text) }

// write writes b, and checks that b is unchanged if that fails.
func (h *handle[T]) write(ctx context.Context, b source.Batch[T]) error {
	return h.call(ctx, b, h.sink.Write)
}

func (h *handle[T]) call(ctx context.Context, b source.Batch[T], write func(context.Context, source.Batch[T]) error) error {
	before := h.s.texts(b.Records)
	err := conform.Do(ctx, func(ctx context.Context) error { return write(ctx, b) })
	h.Watch("Write", err)
	h.checkError(b, err)
	all := parts.New(len(b.Records))
	err = all.Check(err)
	if after := h.s.texts(b.Records); err != nil && !slices.Equal(after, before) {
		h.Add("after an error the batch is still the caller's, unchanged", "%s", conform.Difference(after, before))
	}
	return err
}

// put writes a batch, which must succeed. The batch belongs to the sink then, so the
// suite keeps the texts of its records.
func (h *handle[T]) put(rule string, b source.Batch[T]) bool {
	texts := h.s.texts(b.Records)
	rejected, err := h.settle(b, h.write(h.Ctx, b))
	if len(rejected) > 0 {
		err = errors.Join(err, fmt.Errorf("record %d was rejected", rejected[0]))
	}
	if err != nil {
		h.Add(rule, "handle %s: %v (for a batch of %d records from %q to %q)", h.Name, err, len(b.Records), b.From, b.To)
		h.sync()
		return false
	}
	h.At, h.s.want = b.To, append(h.s.want, texts...)
	return true
}

// mustWrite writes a batch of n new records and expects them to be stored.
func (h *handle[T]) mustWrite(rule string, n int) {
	s := h.s
	b, before := s.batch(n), s.stored
	if !h.put(rule, b) {
		return
	}
	s.mustRead(rule)
	if n = len(b.Records); s.stored != before+n {
		s.Add("a Write that succeeds at once stores every record once", "%d records were stored for %d", s.stored-before, n)
	}
	if s.exact {
		if err := h.Save(s.Ctx, b.From, b.To); err != nil {
			s.Add("the Save that follows a Write finds the cursor moved", "Save(%q, %q): %v", b.From, b.To, err)
			h.sync()
		}
	}
}

// mustRead reads the stored records and expects those that should be stored. An
// at-least-once sink may hold batches of failed writes twice.
func (s *suite[T]) mustRead(rule string) {
	got := s.read()
	if !s.exact {
		got = firsts(got)
	}
	if diff := conform.Difference(got, s.want); diff != "" {
		s.Add(rule, "stored: %s", diff)
		s.want = got
	}
}

func (s *suite[T]) read() []string {
	records, err := s.o.Read(s.Ctx)
	if err != nil {
		s.Stop("what is stored can be read", "%v", err)
	}
	s.stored = len(records)
	return s.texts(records)
}

// sync makes the suite expect what is stored, so that it can go on after a
// violation.
func (h *handle[T]) sync() {
	if h.s.want = h.s.read(); h.s.exact {
		h.Sync()
	} else {
		h.s.want = firsts(h.s.want)
	}
}

// firsts leaves out the repetitions.
func firsts(texts []string) []string {
	seen := make(map[string]bool, len(texts))
	return slices.DeleteFunc(slices.Clone(texts), func(t string) bool {
		repeated := seen[t]
		seen[t] = true
		return repeated
	})
}
