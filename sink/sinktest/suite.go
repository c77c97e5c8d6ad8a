package sinktest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest/conform"
)

// Opened is a sink that has been opened: a handle.
type Opened[T any] struct {
	Sink sink.Sink[T]

	// Checkpointer is the same value, for a sink that promises exactly once.
	// nil tests a sink that stores records alone.
	Checkpointer poller.Checkpointer

	Close func() error // nil if there is nothing to close
}

// Options say what [TestSink] tests.
type Options[T any] struct {
	// Open opens the sink on one storage, the same at each call, as when a
	// process starts. The storage is empty at the first.
	Open func(ctx context.Context) (Opened[T], error)

	// Read returns the records stored, in order. It is called while a handle is
	// open, right after a Write: what is durable can be read.
	Read func(ctx context.Context) ([]T, error)

	// Record makes a record for the test, another one for each i.
	Record func(i int) T

	// Poison makes a record that the sink refuses. nil leaves that untested.
	Poison func() T

	// Text renders a record: two are the same if their texts are. nil renders
	// JSON, which leaves out what encoding/json leaves out.
	Text func(T) string

	// Exclusive says that Open must refuse a second handle while one is open,
	// as with a lock on a file. A closed handle then stands in for a zombie.
	Exclusive bool
}

// TestSink checks a sink against every sentence of [sink.Sink] that can be
// checked from outside, and returns an error that names each one broken, or nil.
// A sink that is passed as Checkpointer too must store each batch with its
// cursor, both or neither, exactly once. pollertest.TestCheckpointer checks it
// as a checkpointer.
//
//	err := sinktest.TestSink(t.Context(), sinktest.Options[Order]{Open: open, Read: read, Record: order})
func TestSink[T any](ctx context.Context, o Options[T]) error {
	if o.Open == nil || o.Read == nil || o.Record == nil {
		return errors.New("sinktest: Options.Open, Read and Record must be set")
	}
	if o.Text == nil {
		o.Text = jsonText[T]
	}
	s := &suite[T]{Violations: conform.Violations{Suite: "sinktest"}, ctx: ctx, o: o}
	func() {
		defer s.closeAll()
		defer func() {
			if p := recover(); p != nil && p != any(errStop) {
				panic(p)
			}
		}()
		s.run()
	}()
	return s.Err()
}

func jsonText[T any](r T) string {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Sprintf("%T without JSON: %v; set Options.Text", r, err)
	}
	return string(b)
}

// errStop unwinds the suite after a violation that leaves nothing more to test.
// The violation itself is noted already.
var errStop = errors.New("stop")

type suite[T any] struct {
	conform.Violations
	ctx context.Context
	o   Options[T]

	open   []*handle[T]
	exact  bool          // exactly once is promised
	want   []string      // what should be stored, each record once
	stored int           // how many records are, those stored twice twice
	cursor source.Cursor // how far
	made   int           // records and cursors made
}

func (s *suite[T]) run() {
	if s.o.Text(s.o.Record(1)) == s.o.Text(s.o.Record(2)) {
		s.stop("Options.Record makes another record for each i", "for 1 and 2: %s", s.o.Text(s.o.Record(1)))
	}
	a := s.start()
	s.exact = a.Checkpointer != nil
	if s.exact {
		a.mustLoad("the storage is empty at first")
	}
	s.mustRead("the storage is empty at first")
	s.basics(a)
	s.contexts(a)
	s.interrupted(a)
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

// handle is an open sink with a name for messages.
type handle[T any] struct {
	s    *suite[T]
	name string
	Opened[T]
	closed bool
}

func (s *suite[T]) start() *handle[T] {
	o, err := s.o.Open(s.ctx)
	if err != nil {
		s.stop("the sink can be opened", "%v", err)
	}
	h := &handle[T]{s: s, name: string(rune('A' + len(s.open)%26)), Opened: o}
	s.open = append(s.open, h)
	return h
}

func (h *handle[T]) close() {
	if h.closed = true; h.Close != nil {
		// Watched, too: one that waits for a Write that hangs would hang the suite.
		_, err := conform.Call(h.s.ctx, func(context.Context) (struct{}, error) { return struct{}{}, h.Close() })
		if err != nil {
			h.s.Add("the sink can be closed", "%v", err)
		}
	}
}

func (s *suite[T]) closeAll() {
	for _, h := range s.open {
		if !h.closed {
			h.close()
		}
	}
}

func (s *suite[T]) stop(rule, format string, args ...any) {
	s.Add(rule, format, args...)
	panic(errStop)
}

// batch makes a batch of n new records that follows what is stored.
func (s *suite[T]) batch(n int) source.Batch[T] {
	b := source.Batch[T]{From: s.cursor}
	for range n {
		s.made++
		b.Records = append(b.Records, s.o.Record(s.made))
	}
	b.To = s.fresh()
	return b
}

// fresh returns a cursor that was never used.
func (s *suite[T]) fresh() source.Cursor {
	s.made++
	return source.Cursor(fmt.Sprintf("cursor %d", s.made))
}

func (s *suite[T]) texts(records []T) []string {
	texts := make([]string, len(records))
	for i, r := range records {
		texts[i] = strings.Clone(s.o.Text(r))
	}
	return texts
}

func (s *suite[T]) watch(op string, err error) error {
	if errors.Is(err, conform.ErrStuck) {
		s.stop(op+" returns soon after its context ends", "%v", err)
	}
	if errors.Is(err, conform.ErrPanic) {
		s.stop(op+" does not panic", "%v", err)
	}
	return err
}

// write writes b, and wants it unchanged if that fails.
func (h *handle[T]) write(ctx context.Context, b source.Batch[T]) error {
	return h.call(ctx, b, h.Sink.Write)
}

func (h *handle[T]) call(ctx context.Context, b source.Batch[T], write func(context.Context, source.Batch[T]) error) error {
	before := h.s.texts(b.Records)
	_, err := conform.Call(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, write(ctx, b)
	})
	if h.s.watch("Write", err) != nil && !slices.Equal(h.s.texts(b.Records), before) {
		h.s.Add("after an error the batch is still the caller's, unchanged", "%s", difference(h.s.texts(b.Records), before))
	}
	return err
}

func (h *handle[T]) load() source.Cursor {
	c, err := conform.Call(h.s.ctx, h.Checkpointer.Load)
	if h.s.watch("Load", err) != nil {
		h.s.stop("Load succeeds while nothing is wrong", "%v", err)
	}
	return c
}

// mustLoad loads, and wants what should be stored.
func (h *handle[T]) mustLoad(rule string) {
	if got := h.load(); got != h.s.cursor {
		h.s.Add(rule, "handle %s loaded %q, want %q", h.name, got, h.s.cursor)
		h.s.cursor = got
	}
}

// mustWrite writes a batch of n new records and wants them stored. The batch is
// the sink's from then on, so a copy is what the suite keeps.
func (h *handle[T]) mustWrite(rule string, n int) {
	s := h.s
	b := s.batch(n)
	texts := s.texts(b.Records)
	if err := h.write(s.ctx, b); err != nil {
		s.Add(rule, "handle %s: a batch of %d records from %q to %q: %v", h.name, n, b.From, b.To, err)
		h.sync()
		return
	}
	s.cursor, s.want = b.To, append(s.want, texts...)
	before := s.stored
	s.mustRead(rule)
	if s.stored != before+n {
		s.Add("a Write that succeeds at once stores every record once", "%d records were stored for %d", s.stored-before, n)
	}
	if s.exact {
		if err := h.save(b.From, b.To); err != nil {
			s.Add("the Save that follows a Write finds the cursor moved", "Save(%q, %q): %v", b.From, b.To, err)
			h.sync()
		}
	}
}

func (h *handle[T]) save(from, to source.Cursor) error {
	_, err := conform.Call(h.s.ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, h.Checkpointer.Save(ctx, from, to)
	})
	return h.s.watch("Save", err)
}

// mustRead reads what is stored, and wants what should be. A sink that promises
// no exactly once may hold batches of failed writes twice.
func (s *suite[T]) mustRead(rule string) {
	got := s.read()
	if !s.exact {
		got = firsts(got)
	}
	if diff := difference(got, s.want); diff != "" {
		s.Add(rule, "%s", diff)
		s.want = got
	}
}

func (s *suite[T]) read() []string {
	records, err := s.o.Read(s.ctx)
	if err != nil {
		s.stop("what is stored can be read", "%v", err)
	}
	s.stored = len(records)
	return s.texts(records)
}

// sync makes the suite believe the storage, so that it can go on.
func (h *handle[T]) sync() {
	if h.s.want = h.s.read(); h.s.exact {
		h.s.cursor = h.load()
	} else {
		h.s.want = firsts(h.s.want)
	}
}

// firsts leaves out what was there before.
func firsts(texts []string) []string {
	seen := make(map[string]bool, len(texts))
	return slices.DeleteFunc(slices.Clone(texts), func(t string) bool {
		was := seen[t]
		seen[t] = true
		return was
	})
}

// difference says where got and want part, or "".
func difference(got, want []string) string {
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			return fmt.Sprintf("stored are %d records, missing from %s on, the last %d of %d", len(got), want[i], len(want)-i, len(want))
		case i >= len(want):
			return fmt.Sprintf("stored are %d records too many, from %s on", len(got)-i, got[i])
		case got[i] != want[i]:
			return fmt.Sprintf("stored record %d is %s, want %s", i, got[i], want[i])
		}
	}
	return ""
}
