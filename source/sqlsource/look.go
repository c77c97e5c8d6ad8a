package sqlsource

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

const (
	lookChunk   = 2048 // keys that one statement reads
	lookBudget  = 10 * lookChunk
	lateKept    = 2 * lookChunk // late keys that wait to be handed out, before no more are looked for
	lateWarning = time.Minute
)

// audit is an Auditor at work over one table.
type audit struct {
	Auditor
	ahead bool // what is there behind the cursor at the beginning is not read, but left out

	window *window // nil: not begun
	types  string  // those of the key's columns, by which the keys in the window were read
	based  bool    // the window reaches as far back as it should
	due    time.Time
	unseen int // keys forgotten before they were looked at

	fetched []uint64 // keys of the batch being fetched
	to      []value  // the last of them

	pass    int       // number of the look
	base    uint64    // the number of the first of pending
	pending []pending // late rows to hand out, or handed out of late
	noticed bool      // since mark was read
	mark    uint64    // of the history, after the last of them was noticed
	since   time.Time // when mark was read
	total   int64
	warned  time.Time
}

// pending is a late row to hand out. Those of one pass are in the order of their
// keys.
type pending struct {
	keyRead
	pass int
}

func newAudit(o Auditor) *audit {
	o.Rows = cmp.Or(o.Rows, DefaultAuditRows)
	o.Every = cmp.Or(o.Every, DefaultAuditEvery)
	return &audit{Auditor: o}
}

// place brings the audit to where a Fetch begins. That is usually behind the
// batch fetched last, or before it, if it was refused. Anywhere else the window
// begins anew.
func (a *audit) place(p *plan, at position, now time.Time) {
	a.fetched = a.fetched[:0]
	types := p.keyTypes()
	late := at.past.late
	if a.window != nil && a.types == types && late >= a.base && late-a.base <= uint64(len(a.pending)) {
		if gone, ok := a.window.cut(at.key); ok {
			done := int(late - a.base)
			// What is above the cursor again is read as any other row.
			rest := slices.DeleteFunc(a.pending[done:], func(k pending) bool { return gone[k.hash] })
			a.pending = a.pending[:done+len(rest)]
			// Those handed out are kept for a while: a batch that was refused is
			// asked for again, though the one behind it was fetched already.
			if done > 2*lateKept {
				a.pending = slices.Delete(a.pending, 0, done-lateKept)
				a.base = late - lateKept
			}
			return
		}
	}
	a.window, a.types, a.based = newWindow(at.key), types, a.ahead || at.key == nil
	a.base, a.pending = late, nil
	a.due = now.Add(a.Every)
}

func (p *plan) keyTypes() string {
	var types []string
	for _, k := range p.key {
		types = append(types, k.typ)
	}
	return strings.Join(types, ",")
}

// fetch takes the key of a row of the batch being fetched.
func (a *audit) fetch(k *keys) { a.fetched = append(a.fetched, a.window.hash(k.last)) }

// handOut takes the keys of the batch that was fetched.
func (a *audit) handOut(now time.Time) {
	if len(a.fetched) == 0 {
		return
	}
	a.window.add(a.fetched, a.to, now, min(lookChunk/2, a.Rows/8+1))
	a.trim(now)
}

func (a *audit) trim(now time.Time) {
	before := int64(-1 << 63)
	if a.Window > 0 {
		before = now.Add(-a.Window).UnixNano()
	}
	n, unseen := a.window.trim(a.Rows, before)
	a.based = a.based || n > 0
	a.unseen += unseen
}

// look looks for late rows, if it is time, as far as one Fetch may.
func (s *state) look(ctx context.Context, db ceiling.Queryer) error {
	a, w, budget := s.audit, s.audit.window, lookBudget
	a.trim(time.Now())
	for !a.based && budget > 0 {
		n, err := s.lookBack(ctx, db)
		if err != nil {
			return err
		}
		budget -= n
	}
	if w.next == 0 {
		if time.Now().Before(a.due) {
			return nil
		}
		a.pass++
	}
	for w.next < len(w.blocks) && budget > 0 && len(a.pending) < 4*lateKept {
		n, err := s.lookAt(ctx, db)
		if err != nil {
			return err
		}
		budget -= n
	}
	if w.next == len(w.blocks) {
		w.next, a.due = 0, time.Now().Add(a.Every)
	}
	a.trim(time.Now())
	return nil
}

// lookBack takes a chunk of the keys that were there before the first Fetch for
// known: nobody knows which of them were handed out.
func (s *state) lookBack(ctx context.Context, db ceiling.Queryer) (int, error) {
	a, w := s.audit, s.audit.window
	n := min(lookChunk, a.Rows-w.size)
	if n <= 0 {
		a.based = true
		return 0, nil
	}
	keys, err := s.keysIn(ctx, db, keyRange{to: w.from, falling: true, limit: n + 1})
	if err != nil {
		return 0, err
	}
	a.based = len(keys) <= n
	var from []value
	if !a.based {
		from, keys = keys[n].values, keys[:n]
	}
	if len(keys) > 0 {
		w.prepend(keys, from, time.Now())
	}
	w.from = from
	return len(keys), nil
}

// lookAt looks at a block of the window.
func (s *state) lookAt(ctx context.Context, db ceiling.Queryer) (int, error) {
	w := s.audit.window
	after, to := w.bounds()
	keys, err := s.keysIn(ctx, db, keyRange{after: after, to: to, limit: lookChunk})
	if err != nil {
		return 0, err
	}
	now := time.Now()
	if late := w.looked(keys, len(keys) < lookChunk, now); len(late) > 0 {
		s.report(ctx, late, now)
	}
	return len(keys) + 1, nil
}

func (s *state) report(ctx context.Context, late []lateKey, now time.Time) {
	a := s.audit
	a.total += int64(len(late))
	a.noticed = true
	l := Late{Total: a.total, Behind: late[0].behind, Passed: time.Unix(0, late[0].passed), Noticed: now}
	for _, k := range late {
		texts := make([]string, len(k.values))
		for i, v := range k.values {
			texts[i] = v.text
		}
		l.Keys = append(l.Keys, texts)
		if a.Deliver {
			a.pending = append(a.pending, pending{k.keyRead, a.pass})
		}
	}
	if now.Sub(a.warned) >= lateWarning {
		a.warned = now
		s.query.logger().WarnContext(ctx, "late rows", "table", s.query.label, "rows", len(late), "total", a.total,
			"first", describeKey(s.query.key, late[0].values), "behind", l.Behind, "passed", l.Passed, "delivered", a.Deliver)
	}
	if a.Late != nil {
		a.Late(ctx, l)
	}
}

// keysIn reads the keys in a range.
func (s *state) keysIn(ctx context.Context, db ceiling.Queryer, r keyRange) (all []keyRead, err error) {
	err = s.query.eachKey(ctx, db, s.plan, r, func(k *keys) {
		all = append(all, keyRead{s.audit.window.hash(k.last), k.lastValues()})
	})
	return all, err
}
