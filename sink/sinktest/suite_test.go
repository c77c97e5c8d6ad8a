package sinktest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/source"
)

type order struct {
	ID   int
	Name string
}

func newOrder(i int) order { return order{i, fmt.Sprintf("order %d", i)} }

func badOrder() order { return order{ID: -1, Name: "poison"} }

func refuse(o order) error {
	if o.ID < 0 {
		return errors.New("violates a check")
	}
	return nil
}

func TestFakePasses(t *testing.T) {
	t.Parallel()
	fake := &sinktest.Fake[order]{Refuse: refuse}
	require.NoError(t, sinktest.TestSink(t.Context(), sinktest.Options[order]{
		Open: func(context.Context) (sinktest.Opened[order], error) {
			return sinktest.Opened[order]{Sink: fake}, nil
		},
		Read:   func(context.Context) ([]order, error) { return fake.Records(), nil },
		Record: newOrder,
		Poison: badOrder,
	}))
}

func TestTransactionalPasses(t *testing.T) {
	t.Parallel()
	first := &sinktest.Transactional[order]{Refuse: refuse}
	require.NoError(t, sinktest.TestSink(t.Context(), sinktest.Options[order]{
		Open: func(context.Context) (sinktest.Opened[order], error) {
			h := first.Open()
			return sinktest.Opened[order]{Sink: h, Checkpointer: h}, nil
		},
		Read:   func(context.Context) ([]order, error) { return first.Records(), nil },
		Record: newOrder,
		Poison: badOrder,
	}))
}

// store is a sink's storage that can make every mistake.
type store struct {
	exact, exclusive bool

	late           bool // acknowledges, and stores with the next Write or Close
	pairs          bool // recognizes a repetition by From and To
	noFence        bool // compares nothing
	noToken        bool // compares cursors only
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
	tokens  int
	opened  int
	records []order
	queue   []order
	seenBy  map[[2]source.Cursor]bool
}

type storeHandle struct {
	*store
	me, seenWriter int
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
	h.seen, h.seenWriter = h.cursor, h.writer
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
	h.cursor, h.writer, h.seen, h.seenWriter = to, h.me, to, h.me
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
	if h.cursor != from || !h.noToken && (h.seen != h.cursor || h.seenWriter != h.writer) {
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

func run(ctx context.Context, s *store, exclusive bool) error {
	return sinktest.TestSink(ctx, sinktest.Options[order]{
		Open:      s.open,
		Read:      func(context.Context) ([]order, error) { return s.records, nil },
		Record:    newOrder,
		Poison:    badOrder,
		Exclusive: exclusive,
	})
}

func TestGoodStoresPass(t *testing.T) {
	t.Parallel()
	require.NoError(t, run(t.Context(), &store{}, false))
	require.NoError(t, run(t.Context(), &store{exact: true}, false))
	require.NoError(t, run(t.Context(), &store{exclusive: true}, true))
	require.NoError(t, run(t.Context(), &store{exact: true, exclusive: true}, true))
}

func TestBrokenSinksFail(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		store *store
		want  string
	}{
		"acknowledges before it is durable": {&store{late: true},
			`sinktest: Write stores every record, in order, before it returns: stored: 0 records, missing from {"ID":1,"Name":"order 1"} on, the last 1 of 1`},
		"acknowledges before it is durable, exactly": {&store{late: true, exact: true},
			`Write stores every record, in order, before it returns: stored: 0 records, missing`},
		"takes From and To for a key": {&store{exact: true, pairs: true},
			`From is the fence after a restart: nothing is stored twice: handle B: a batch from "cursor`},
		"takes From and To for a key, before a restart": {&store{exact: true, pairs: true},
			`From is the fence, not (From, To): a longer batch is not a repetition: handle A`},
		"has no fence": {&store{exact: true, noFence: true},
			`a Write whose answer was lost succeeds again, and stores nothing twice: stored: 4 records too many`},
		"has no token": {&store{exact: true, noToken: true},
			`two handles in lockstep do not both store a batch: handle`},
		"has no token and a restart": {&store{exact: true, noToken: true},
			`From is the fence after a restart: nothing is stored twice: handle B`},
		"a lost answer is a conflict": {&store{exact: true, noLostAnswer: true},
			`a Write whose answer was lost succeeds again, and stores nothing twice: checkpoint was moved`},
		"stores half": {&store{exact: true, half: true},
			`a batch is stored whole or not at all: of an interrupted batch of 3: 1 records too many`},
		"moves the cursor ahead of the records": {&store{exact: true, ahead: true},
			`the same batch written again after an error is stored: stored: `},
		"ignores its context": {&store{ignoresContext: true},
			`Write honours its context: no error although the context has ended`},
		"keeps the caller's batch": {&store{keeps: true},
			`the same batch written again after an error is stored: stored: record 1108 is {"ID":0,"Name":""}`},
		"changes the caller's batch": {&store{scribbles: true},
			`after an error the batch is still the caller's, unchanged: record 0 is {"ID":`},
		"reverses": {&store{reverses: true},
			`Write stores every record, in order, before it returns: stored: record 1 is`},
		"doubles": {&store{doubles: true},
			`a Write that succeeds at once stores every record once: 2 records were stored for 1`},
		"drops batches without records": {&store{exact: true, dropsEmpty: true},
			`Write moves the cursor with the records, even without records: handle A loaded "cursor`},
		"forgets": {&store{exact: true, forgets: true},
			`what is stored survives closing and opening: stored: 0 records`},
		"conflicts without ErrConflict": {&store{exact: true, plainConflict: true},
			`a longer batch is not a repetition: the error wraps ErrConflict: handle A: moved`},
		"rejects without Reject": {&store{plainReject: true},
			`a poisoned record is refused with sink.Reject: violates a check`},
		"rejects and stores": {&store{exact: true, storesGood: true},
			`a rejection promises that nothing was stored: stored: 1 records too many`},
		"takes poison": {&store{takesPoison: true},
			`a poisoned record is refused: Write succeeded`},
		"conflicts with its own Write": {&store{exact: true, saveMoved: true},
			`the Save that follows a Write finds the cursor moved: Save("", "cursor 2"): checkpoint was moved by another writer`},
		"a closed handle stores": {&store{exclusive: true, zombies: true},
			`a closed handle stores nothing: handle B: Write succeeded`},
		"says it is exclusive": {&store{exclusive: true, neverRefuses: true},
			`a second handle is refused while one is open: Open succeeded`},
		"cannot load": {&store{exact: true, failsLoads: 3}, `Load succeeds while nothing is wrong: cannot read`},
		"a Load takes over": {&store{exact: true, loadTakesOver: true},
			`a Load by another handle does not disturb: handle B: checkpoint was moved by another writer`},
		"cannot skip": {&store{exact: true, saveFails: true},
			`Save moves the cursor past a refused record: nothing was written`},
		"calls everything a conflict": {&store{crossConflict: true},
			`an interruption is neither a conflict nor a rejection: checkpoint was moved by another writer`},
		"cannot be closed": {&store{closeFails: true}, `the sink can be closed: cannot close`},
		"forgets the cursor": {&store{exact: true, forgetsCursor: true},
			`the cursor was stored with the records: handle B loaded "x"`},
		"a refused handle takes over": {&store{exact: true, exclusive: true, refusal: true},
			`a refused second handle leaves the first alone: handle B`},
		"a closed handle disturbs": {&store{exact: true, exclusive: true, closedDisturbs: true},
			`a closed handle does not disturb an open one: handle C`},
		"is not empty": {&store{exact: true, cursor: "x", records: []order{{ID: 7}}},
			`the storage is empty at first: handle A loaded "x", want "" (and 1 more)`},
		"panics": {&store{panics: true}, `Write does not panic: panic: write`},
	} {
		t.Run(name, func(t *testing.T) {
			err := run(t.Context(), c.store, c.store.exclusive)
			require.ErrorContains(t, err, c.want)
			t.Log(err)
		})
	}
}

func TestSinkThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		defer close(free)
		err := sinktest.TestSink(t.Context(), sinktest.Options[order]{
			Open: func(context.Context) (sinktest.Opened[order], error) {
				return sinktest.Opened[order]{
					Sink:  sink.Func[order](func(context.Context, source.Batch[order]) error { <-free; return nil }),
					Close: func() error { <-free; return nil }, // it waits for the Write
				}, nil
			},
			Read:   func(context.Context) ([]order, error) { return nil, nil },
			Record: newOrder,
		})
		require.EqualError(t, err, "sinktest: Write returns soon after its context ends: did not return within 10s of the end of its context\n"+
			"sinktest: the sink can be closed: did not return within 10s of the end of its context")
	})
}

func TestSinkThatCannotBeTested(t *testing.T) {
	t.Parallel()
	broken := errors.New("no disk")
	good := sinktest.Options[order]{
		Open:   (&store{}).open,
		Read:   func(context.Context) ([]order, error) { return nil, nil },
		Record: newOrder,
	}
	require.EqualError(t, sinktest.TestSink(t.Context(), sinktest.Options[order]{Open: good.Open, Record: good.Record}),
		"sinktest: Options.Open, Read and Record must be set")

	o := good
	o.Open = func(context.Context) (sinktest.Opened[order], error) { return sinktest.Opened[order]{}, broken }
	require.EqualError(t, sinktest.TestSink(t.Context(), o), "sinktest: the sink can be opened: no disk")

	o = good
	o.Record = func(int) order { return order{} }
	require.EqualError(t, sinktest.TestSink(t.Context(), o),
		`sinktest: Options.Record makes another record for each i: for 1 and 2: {"ID":0,"Name":""}`)

	o = good
	o.Read = func(context.Context) ([]order, error) { return nil, broken }
	require.EqualError(t, sinktest.TestSink(t.Context(), o), "sinktest: what is stored can be read: no disk")
}
