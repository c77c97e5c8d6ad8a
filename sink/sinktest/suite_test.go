package sinktest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

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
		"does not count": {&store{exact: true, noCount: true},
			`a late handle stores nothing, although the cursor it loaded is back, from the same handle: handle`},
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
	o.Open = func(context.Context) (sinktest.Opened[order], error) { return sinktest.Opened[order]{}, nil }
	require.EqualError(t, sinktest.TestSink(t.Context(), o), "sinktest: Options.Open sets Opened.Sink: it is nil")

	o = good
	o.Record = func(int) order { return order{} }
	require.EqualError(t, sinktest.TestSink(t.Context(), o),
		`sinktest: Options.Record makes another record for each i: for 1 and 2: {"ID":0,"Name":""}`)

	o = good
	o.Read = func(context.Context) ([]order, error) { return nil, broken }
	require.EqualError(t, sinktest.TestSink(t.Context(), o), "sinktest: what is stored can be read: no disk")
}
