package hostile

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Ledger records what happened to every row that the writers wrote. It is safe for
// concurrent use.
type Ledger struct {
	mu      sync.Mutex
	next    int64 // the next token
	spans   []span
	deleted map[int64]bool
	absent  map[int64]bool // tokens that turned out not to be committed, or that the server lost
	acts    map[string]int
	count   Counts
}

// Counts are the totals of a run of the writers.
type Counts struct {
	Committed    int // rows committed, including rows deleted later
	Transactions int // transactions committed
	RolledBack   int // transactions rolled back
	Prepared     int // transactions prepared, whether they committed or not
	Reconnected  int // prepared transactions ended over another connection, because theirs was lost
	Failed       int // transactions that the database ended, as by deadlocks and outages
	Unknown      int // transactions whose commit got no answer
	Deleted      int // rows deleted
	LostByServer int // rows whose commit the server confirmed and then lost
}

// span is the rows of one act in a transaction that committed, or may have committed.
type span struct {
	first int64
	n     int32
	state state
	at    time.Time // when the commit was confirmed
	what  string
}

// has reports whether the span contains a token.
func (s span) has(token int64) bool { return s.first <= token && token < s.first+int64(s.n) }

// state is how a transaction ended.
type state uint8

const (
	committed  state = iota
	unknown          // the commit got no answer
	rolledBack       // by the writer or the database
)

func newLedger() *Ledger {
	return &Ledger{next: 1, deleted: map[int64]bool{}, absent: map[int64]bool{}, acts: map[string]int{}}
}

// take reserves n tokens and returns the first.
func (l *Ledger) take(n int) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.next
	l.next += int64(n)
	return first
}

// Counts returns the totals so far.
func (l *Ledger) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

// Acts returns how often each act was committed, by name.
func (l *Ledger) Acts() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.acts)
}

func (l *Ledger) note(f func(c *Counts)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(&l.count)
}

// end records how a transaction ended.
func (l *Ledger) end(x *Txn, s state) {
	at := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if x.xid != "" {
		l.count.Prepared++
		x.acts = append(x.acts, "prepared")
	}
	if s == rolledBack {
		l.count.RolledBack++
		return
	}
	for _, sp := range x.spans {
		sp.at, sp.state = at, s
		if x.xid != "" {
			sp.what += ", prepared"
		}
		l.spans = append(l.spans, sp)
		if s == committed {
			l.count.Committed += int(sp.n)
		}
	}
	for _, token := range x.deletes {
		l.deleted[token] = true
	}
	l.count.Deleted = len(l.deleted)
	if s == unknown {
		l.count.Unknown++
		return
	}
	l.count.Transactions++
	for _, a := range x.acts {
		l.acts[a]++
	}
}

// deletable returns tokens of committed rows to delete: of the newest rows, which a reader
// may not have read yet, or of rows of any age.
func (l *Ledger) deletable(pick func(n int) int, newest bool) []int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.spans) < 2 {
		return nil
	}
	i := len(l.spans) - 1
	if !newest {
		i = 1 + pick(len(l.spans)-1) // the first span may be the prefill, which Upsert needs
	}
	s := l.spans[i]
	if s.state != committed {
		return nil
	}
	var tokens []int64
	for t := s.first; s.has(t) && len(tokens) < 5; t++ {
		if !l.deleted[t] {
			tokens = append(tokens, t)
		}
	}
	return tokens
}

// reconcile reads which rows exist. That decides about commits that got no answer, and
// reveals confirmed rows that the server lost.
func (l *Ledger) reconcile(ctx context.Context, db *sql.DB, t Table) error {
	tokens, err := list[sql.NullInt64](ctx, db, "SELECT "+t.Token+" FROM "+t.Name)
	if err != nil {
		return fmt.Errorf("hostile: reading the existing rows: %w", err)
	}
	present := map[int64]bool{}
	for _, token := range tokens {
		if !token.Valid {
			return fmt.Errorf("hostile: the table has a row without a token in %s: another client wrote it, or an act that does not call Reserve", t.Token)
		}
		if present[token.Int64] {
			return fmt.Errorf("hostile: token %d is in the table twice: an act inserted rows with tokens that it did not reserve", token.Int64)
		}
		present[token.Int64] = true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.deleted, func(token int64, _ bool) bool { return present[token] }) // the delete did not commit
	l.count.Deleted = len(l.deleted)
	slices.SortFunc(l.spans, func(a, b span) int { return int(a.first - b.first) })
	for _, s := range l.spans {
		for t := s.first; s.has(t); t++ {
			exists := present[t] || l.deleted[t]
			switch {
			case exists && s.state == unknown:
				l.count.Committed++
			case !exists && s.state == committed:
				l.count.Committed--
				l.count.LostByServer++
			}
			if !exists {
				l.absent[t] = true
			}
			delete(present, t)
		}
	}
	for token := range present {
		return fmt.Errorf("hostile: token %d is in the table though its transaction did not commit", token)
	}
	return nil
}
