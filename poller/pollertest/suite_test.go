package pollertest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/source"
)

func TestFakePasses(t *testing.T) {
	t.Parallel()
	var first pollertest.Checkpointer
	open := func(context.Context) (pollertest.Opened, error) {
		return pollertest.Opened{Checkpointer: first.Open()}, nil
	}
	require.NoError(t, pollertest.TestCheckpointer(t.Context(), pollertest.Options{
		Open:   open,
		Rewind: func(_ context.Context, to source.Cursor) error { first.Rewind(to); return nil },
	}))
	require.ErrorContains(t, pollertest.TestCheckpointer(t.Context(), pollertest.Options{Open: open}),
		"Load returns the empty cursor if none was stored yet: handle A loaded")
}

// store is a checkpoint store that can make every mistake.
type store struct {
	forgetsToken    bool // compares cursors only
	noCount         bool // compares cursors and tokens only
	comparesNothing bool
	noLostAnswer    bool // a repeated Save is a conflict
	anyLostAnswer   bool // a repeated Save succeeds whoever made the first
	forgets         bool // does not survive opening
	ignoresCase     bool
	trims           bool
	truncates       bool
	takesInvalid    bool
	ignoresContext  bool
	plainConflict   bool // does not wrap ErrConflict
	storesConflict  bool
	crossConflict   bool // calls everything a conflict
	rewindKeepsMe   bool
	begins          source.Cursor
	races           bool
	exclusive       bool
	neverRefuses    bool // although it says that it is exclusive
	zombies         bool // a closed handle still saves
	panics          bool
	loadIgnores     bool // Load ignores its context
	failsLoads      int  // from this one on
	loads           int
	diesOnConflict  bool // never saves again after a conflict,
	diesOnTwo       bool // two of them without a Load between them,
	diesOnInvalid   bool // an invalid cursor,
	diesOnRepeat    bool // a repeated Save,
	diesOnError     bool // a context that has ended,
	diesOnLoad      bool // a second Load
	refusesLong     bool
	lies            bool // an interrupted Save says that it has stored
	neverTakesOver  bool // only the first writer ever saves
	closeFails      bool
	closedDisturbs  bool // a closed handle's Save moves the token
	refusalDisturbs bool // a refused Open takes over
	ignoresEmpty    bool // as a rewind's target
	stayFails       bool // Save(from, from) is a conflict,
	stayCompares    bool // compares cursors only

	mu     sync.Mutex
	cursor source.Cursor
	writer int
	count  int // of moves
	tokens int
	opened int
}

type storeHandle struct {
	*store
	me, seenWriter int
	seenCount      int
	seen           source.Cursor
	closed, dead   bool
	loaded         int
	conflicts      int // since the last Load
}

func (s *store) open(context.Context) (pollertest.Opened, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.exclusive && s.opened > 0 && !s.neverRefuses {
		if s.refusalDisturbs {
			s.writer = 0
		}
		return pollertest.Opened{}, errors.New("open elsewhere")
	}
	if s.tokens == 0 || s.forgets {
		s.cursor = s.begins
	}
	s.opened++
	s.tokens++
	h := &storeHandle{store: s, me: s.tokens}
	return pollertest.Opened{Checkpointer: h, Close: func() error {
		h.closed = true
		s.opened--
		if s.closeFails {
			return errors.New("cannot close")
		}
		return nil
	}}, nil
}

func (s *store) rewind(_ context.Context, to source.Cursor) error {
	if s.ignoresEmpty && to == "" {
		return nil
	}
	if s.cursor = to; !s.rewindKeepsMe {
		s.tokens++
		s.writer = s.tokens
	}
	return nil
}

func (h *storeHandle) Load(ctx context.Context) (source.Cursor, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.loads++; h.failsLoads > 0 && h.loads >= h.failsLoads {
		return "", errors.New("cannot read")
	}
	if h.loaded++; h.diesOnLoad && h.loaded > 1 {
		h.dead = true
	}
	h.conflicts = 0
	h.seen, h.seenWriter, h.seenCount = h.cursor, h.writer, h.count
	if h.loadIgnores {
		return h.cursor, nil
	}
	return h.cursor, ctx.Err()
}

func (h *storeHandle) Save(ctx context.Context, from, to source.Cursor) error {
	h.mu.Lock()
	repeated := h.cursor == to && from != to
	if h.closed && h.closedDisturbs {
		h.writer = 0
	}
	h.mu.Unlock()
	err := h.save(ctx, from, to)
	if errors.Is(err, poller.ErrConflict) {
		h.conflicts++
	}
	switch {
	case h.diesOnTwo && h.conflicts == 2:
		h.dead = true
	case errors.Is(err, poller.ErrConflict) && h.diesOnConflict,
		to.Validate() != nil && h.diesOnInvalid,
		repeated && err == nil && h.diesOnRepeat,
		ctx.Err() != nil && h.diesOnError:
		h.dead = true
	}
	return err
}

func (h *storeHandle) save(ctx context.Context, from, to source.Cursor) error {
	switch {
	case h.dead, h.neverTakesOver && h.me > 1:
		return errors.New("dead")
	case h.refusesLong && len(to) > 255:
		return errors.New("value too long")
	case h.panics:
		panic("save")
	case h.closed && !h.zombies:
		return errors.New("closed")
	case ctx.Err() != nil && h.crossConflict:
		return fmt.Errorf("%w: %w", poller.ErrConflict, ctx.Err())
	case ctx.Err() != nil && !h.ignoresContext:
		return ctx.Err()
	case h.lies && ctx.Err() != nil:
		return nil
	case to.Validate() != nil && !h.takesInvalid:
		return to.Validate()
	}
	if h.trims {
		to = source.Cursor(strings.TrimSpace(string(to)))
	}
	if h.truncates && len(to) > 255 {
		to = to[:255]
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	mine := h.writer == h.me || h.anyLostAnswer || h.forgetsToken
	if from == to && (h.stayFails || h.stayCompares) {
		if h.stayFails || h.cursor != from {
			return poller.ErrConflict
		}
		return nil
	}
	if h.cursor == to && mine && !h.noLostAnswer {
		h.seen, h.seenWriter, h.seenCount = to, h.writer, h.count
		return nil
	}
	same := h.cursor == from || h.ignoresCase && strings.EqualFold(string(h.cursor), string(from))
	ok := same && (h.forgetsToken || h.seenWriter == h.writer && h.seen == h.cursor && (h.noCount || h.seenCount == h.count))
	if h.races {
		h.mu.Unlock()
		for range 100 {
			runtime.Gosched()
		}
		h.mu.Lock()
	}
	if !ok && !h.comparesNothing {
		if h.storesConflict {
			h.cursor = to
		}
		if h.plainConflict {
			return errors.New("moved")
		}
		return poller.ErrConflict
	}
	h.count++
	h.cursor, h.writer = to, h.me
	h.seen, h.seenWriter, h.seenCount = to, h.me, h.count
	return nil
}

func run(ctx context.Context, s *store) error {
	return pollertest.TestCheckpointer(ctx, pollertest.Options{Open: s.open, Rewind: s.rewind, Exclusive: s.exclusive})
}

func TestGoodStoresPass(t *testing.T) {
	t.Parallel()
	require.NoError(t, run(t.Context(), &store{}))
	require.NoError(t, run(t.Context(), &store{exclusive: true}))
}

func TestBrokenCheckpointersFail(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		store *store
		want  string
	}{
		"without a token": {&store{forgetsToken: true},
			`pollertest: two handles in lockstep do not both succeed: handle C: Save("cursor `},
		"does not count": {&store{noCount: true},
			`a late handle cannot save, although the cursor it loaded is back, from the same handle: handle B: Save("cursor `},
		"the last one wins": {&store{comparesNothing: true},
			`Save refuses a from that is not the stored cursor: handle A: Save("cursor 5", "cursor 6") succeeded`},
		"a lost answer is a conflict": {&store{noLostAnswer: true},
			`a Save whose answer was lost succeeds again, and stores nothing: handle A: Save("cursor 8", "cursor 9") again`},
		"anyone's answer was lost": {&store{anyLostAnswer: true},
			`two handles in lockstep do not both succeed`},
		"a rewind looks like a lost answer": {&store{anyLostAnswer: true},
			`a rewind to where a handle would go is not a lost answer of it`},
		"forgets": {&store{forgets: true},
			`a stored cursor survives closing and opening: handle B loaded "", want "cursor `},
		"ignores case": {&store{ignoresCase: true},
			`cursors that differ in case, blanks or zeros differ: handle A: Save("case", "cursor`},
		"trims": {&store{trims: true},
			`a cursor is loaded as it was saved, byte by byte: handle A loaded "case", want "case "`},
		"truncates": {&store{truncates: true},
			`a cursor is loaded as it was saved, byte by byte: handle A loaded "xxx`},
		"takes invalid cursors": {&store{takesInvalid: true},
			`an invalid cursor is refused: Save(…, "a\nb") succeeded`},
		"ignores its context": {&store{ignoresContext: true},
			`Save honours its context: no error although the context has ended`},
		"conflicts without ErrConflict": {&store{plainConflict: true},
			`two handles in lockstep do not both succeed: the error wraps ErrConflict: handle C: Save(`},
		"stores on conflict": {&store{storesConflict: true},
			`an error that wraps ErrConflict means that nothing was stored: handle A loaded "cursor 6", want "cursor 4"`},
		"calls everything a conflict": {&store{crossConflict: true},
			`ErrConflict is for conflicts alone: a context that has ended: checkpoint was moved by another writer`},
		"a rewind keeps the token": {&store{rewindKeepsMe: true},
			`a rewind to where the cursor is counts as one: handle`},
		"begins somewhere": {&store{begins: "x"},
			`Load returns the empty cursor if none was stored yet: handle A loaded "x", want ""`},
		"compares, then swaps": {&store{races: true},
			`of handles that save at the same time one succeeds: `},
		"says it is exclusive": {&store{exclusive: true, neverRefuses: true},
			`a second handle is refused while one is open: Open succeeded`},
		"does not say it is exclusive": {&store{exclusive: true}, `a handle can be opened: open elsewhere`},
		"a closed handle saves": {&store{exclusive: true, zombies: true, comparesNothing: true},
			`a closed handle saves nothing: handle B: Save succeeded`},
		"loads without looking at its context": {&store{loadIgnores: true},
			`Load honours its context: no error although the context has ended`},
		"cannot load": {&store{failsLoads: 9}, `Load succeeds while nothing is wrong: cannot read`},
		"is dead after a conflict": {&store{diesOnConflict: true},
			`a handle that has loaded again goes on after a conflict: handle A`},
		"is dead after two conflicts": {&store{diesOnTwo: true},
			`a late handle goes on once it has loaded: handle B`},
		"a closed handle disturbs": {&store{exclusive: true, closedDisturbs: true},
			`a closed handle does not disturb an open one: handle C`},
		"is dead after an invalid cursor": {&store{diesOnInvalid: true},
			`Save goes on after an invalid cursor: handle A`},
		"is dead after a repetition": {&store{diesOnRepeat: true},
			`Save goes on after a repeated one: handle A`},
		"is dead after an interruption": {&store{diesOnError: true},
			`the caller saves again after an error: after a Save with a context that had ended: dead`},
		"is dead after a second Load": {&store{diesOnLoad: true},
			`Save goes on after a Load: handle A`},
		"cannot save at all": {&store{neverTakesOver: true, tokens: 1},
			`Save moves the cursor from the stored one: handle A`},
		"refuses long cursors": {&store{refusesLong: true},
			`every valid cursor can be stored: handle A: Save("`},
		"says it has stored": {&store{lies: true},
			`a Save that is interrupted and succeeds has stored: handle A loaded`},
		"never takes over": {&store{neverTakesOver: true},
			`a new handle goes on where the old one was: handle B`},
		"cannot be closed": {&store{closeFails: true}, `a handle can be closed: cannot close`},
		"a refused handle takes over": {&store{exclusive: true, refusalDisturbs: true},
			`a refused second handle leaves the first alone: handle B`},
		"does not rewind to the beginning": {&store{ignoresEmpty: true},
			`a rewind to the empty cursor starts over: handle`},
		"cannot save what is stored": {&store{stayFails: true},
			`Save(from, from) succeeds and moves nothing if nobody else has moved the cursor: handle A: Save("", "")`},
		"compares only cursors to save what is stored": {&store{stayCompares: true},
			`Save(from, from) is refused after another handle has moved the cursor, even there and back: handle B: Save("cursor `},
		"compares only cursors after a rewind": {&store{stayCompares: true},
			`Save(from, from) is refused after a rewind, also to where the cursor is: handle `},
		"panics": {&store{panics: true}, `Save does not panic: panic: save`},
	} {
		t.Run(name, func(t *testing.T) {
			o := pollertest.Options{Open: c.store.open, Rewind: c.store.rewind, Exclusive: c.store.exclusive}
			if strings.HasPrefix(name, "does not say") {
				o.Exclusive = false
			}
			err := pollertest.TestCheckpointer(t.Context(), o)
			require.ErrorContains(t, err, c.want)
			t.Log(err)
		})
	}
}

func TestCheckpointerThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		defer close(free)
		err := pollertest.TestCheckpointer(t.Context(), pollertest.Options{
			Open: func(context.Context) (pollertest.Opened, error) {
				return pollertest.Opened{
					Checkpointer: hanging(free),
					Close:        func() error { <-free; return nil }, // it waits for the Save
				}, nil
			},
		})
		require.ErrorContains(t, err, "pollertest: Save returns soon after its context ends: did not return within 10s")
		require.ErrorContains(t, err, "pollertest: a handle can be closed: did not return within 10s")
	})
}

type hanging chan struct{}

func (hanging) Load(context.Context) (source.Cursor, error) { return "", nil }

func (h hanging) Save(context.Context, source.Cursor, source.Cursor) error { <-h; return nil }

func TestCheckpointerThatCannotBeTested(t *testing.T) {
	t.Parallel()
	require.EqualError(t, pollertest.TestCheckpointer(t.Context(), pollertest.Options{}), "pollertest: Options.Open is not set")
	require.EqualError(t, pollertest.TestCheckpointer(t.Context(), pollertest.Options{
		Open: func(context.Context) (pollertest.Opened, error) { return pollertest.Opened{}, errors.New("no file") },
	}), "pollertest: a handle can be opened: no file")
	require.EqualError(t, pollertest.TestCheckpointer(t.Context(), pollertest.Options{
		Open: func(context.Context) (pollertest.Opened, error) { return pollertest.Opened{}, nil },
	}), "pollertest: Options.Open sets Opened.Checkpointer: it is nil")
	require.ErrorContains(t, pollertest.TestCheckpointer(t.Context(), pollertest.Options{
		Open:   (&store{}).open,
		Rewind: func(context.Context, source.Cursor) error { return errors.New("no such command") },
	}), `pollertest: a person can rewind: to "cursor`)
}
