package sinktest_test

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/source"
)

// store is a sink's storage that can make every mistake.
type store struct {
	exact, exclusive bool

	late           bool // acknowledges, and stores with the next Write or Close
	pairs          bool // recognizes a repetition by From and To
	noFence        bool // compares nothing
	noToken        bool // compares cursors only
	noCount        bool // compares cursors and tokens only
	noLostAnswer   bool // a repeated Write is a conflict
	half           bool // an interrupted Write stores some records
	ahead          bool // stores the cursor first, checks the context, then stores the records
	ignoresContext bool
	keeps          bool // after an error stores the caller's slice later
	scribbles      bool // changes the batch and then fails
	reverses       bool
	doubles        bool
	dropsEmpty     bool // ignores batches without records
	forgets        bool // storage does not survive opening
	plainConflict  bool
	plainReject    bool
	storesGood     bool // a rejected batch without its poison is stored
	takesPoison    bool
	saveMoved      bool // the Save after a Write is a conflict
	zombies        bool
	neverRefuses   bool
	panics         bool
	failsLoads     int // from this one on
	loads          int
	loadTakesOver  bool // so that another handle cannot write
	saveFails      bool // where no Write was before
	crossConflict  bool // calls everything a conflict
	closeFails     bool
	forgetsCursor  bool // when opened
	refusal        bool // a refused Open takes over
	closedDisturbs bool // a Write of a closed handle moves the token

	mu      sync.Mutex
	cursor  source.Cursor
	writer  int
	count   int // of moves
	tokens  int
	opened  int
	records []order
	queue   []order
	seenBy  map[[2]source.Cursor]bool
}

type storeHandle struct {
	*store
	me, seenWriter int
	seenCount      int
	seen           source.Cursor
	closed         bool
	retained       []order
}

func (s *store) open(context.Context) (sinktest.Opened[order], error) {
	if s.exclusive && s.opened > 0 && !s.neverRefuses {
		if s.refusal {
			s.writer = 0
		}
		return sinktest.Opened[order]{}, errors.New("open elsewhere")
	}
	if s.forgets {
		s.records = nil
	}
	if s.forgetsCursor && s.tokens > 0 {
		s.cursor = "x"
	}
	s.tokens++
	s.opened++
	h := &storeHandle{store: s, me: s.tokens}
	o := sinktest.Opened[order]{Sink: h, Close: h.close}
	if s.exact {
		o.Checkpointer = h
	}
	return o, nil
}

func (h *storeHandle) close() error {
	h.closed = true
	h.opened--
	h.records, h.queue = append(h.records, h.queue...), nil
	if h.closeFails {
		return errors.New("cannot close")
	}
	return nil
}

func (h *storeHandle) Load(ctx context.Context) (source.Cursor, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.loads++; h.failsLoads > 0 && h.loads >= h.failsLoads {
		return "", errors.New("cannot read")
	}
	if h.loadTakesOver {
		h.writer = h.me
	}
	h.seen, h.seenWriter, h.seenCount = h.cursor, h.writer, h.count
	return h.cursor, ctx.Err()
}

func (h *storeHandle) Save(_ context.Context, from, to source.Cursor) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.saveFails && h.cursor != to {
		return errors.New("nothing was written")
	}
	if h.saveMoved && h.cursor == to {
		return poller.ErrConflict
	}
	_, err := h.check(from, to)
	if err == nil {
		h.move(to)
	}
	return err
}

func (h *storeHandle) move(to source.Cursor) {
	h.count++
	h.cursor, h.writer, h.seen, h.seenWriter, h.seenCount = to, h.me, to, h.me, h.count
}

// check reports whether the move has been made before.
func (h *storeHandle) check(from, to source.Cursor) (repeated bool, err error) {
	if !h.exact || h.noFence {
		return false, nil
	}
	if h.pairs {
		pair := [2]source.Cursor{from, to}
		if h.seenBy == nil {
			h.seenBy = map[[2]source.Cursor]bool{}
		}
		defer func() { h.seenBy[pair] = true }()
		return h.seenBy[pair], nil
	}
	if h.cursor == to && (h.writer == h.me || h.noToken) && !h.noLostAnswer {
		return true, nil
	}
	if h.cursor != from || !h.noToken && (h.seen != h.cursor || h.seenWriter != h.writer || !h.noCount && h.seenCount != h.count) {
		if h.plainConflict {
			return false, errors.New("moved")
		}
		return false, poller.ErrConflict
	}
	return false, nil
}

func (h *storeHandle) Write(ctx context.Context, b source.Batch[order]) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.panics {
		panic("write")
	}
	if h.closed && h.closedDisturbs {
		h.writer = 0
	}
	if h.closed && !h.zombies {
		return errors.New("closed")
	}
	if h.crossConflict && ctx.Err() != nil {
		return poller.ErrConflict
	}
	h.records = append(h.records, h.retained...)
	h.retained = nil
	if err := ctx.Err(); err != nil && !h.ignoresContext {
		if h.keeps {
			h.retained = b.Records
		}
		if h.scribbles && len(b.Records) > 0 {
			b.Records[0].Name = "x"
		}
		return err
	}
	repeated, err := h.check(b.From, b.To)
	if repeated || err != nil {
		return err
	}
	stored := slices.Clone(b.Records)
	for _, r := range b.Records {
		if err := refuse(r); err != nil && !h.takesPoison {
			if h.storesGood {
				h.records = append(h.records, b.Records[0])
			}
			if h.plainReject {
				return err
			}
			return sink.Reject(err)
		}
	}
	if h.ahead {
		h.move(b.To)
	}
	if ctx.Err() != nil && !h.ignoresContext {
		if h.half {
			h.records = append(h.records, stored[0])
		}
		return ctx.Err()
	}
	if h.reverses {
		slices.Reverse(stored)
	}
	if h.doubles {
		stored = append(stored, stored...)
	}
	if h.dropsEmpty && len(stored) == 0 {
		return nil
	}
	if h.late {
		h.records, h.queue = append(h.records, h.queue...), stored
	} else {
		h.records = append(h.records, stored...)
	}
	h.move(b.To)
	return nil
}
