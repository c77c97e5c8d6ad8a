package hostile

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
	"sync"
	"time"
)

// Ledger knows what became of every row that the writers wrote. It is safe for
// concurrent use.
type Ledger struct {
	mu      sync.Mutex
	next    int64 // the next token
	spans   []span
	deleted map[int64]bool
	acts    map[string]int
	count   Counts
}

// Counts says what the writers did.
type Counts struct {
	Committed    int // rows, deleted ones included
	Transactions int // that committed
	RolledBack   int // transactions
	Prepared     int // transactions, that committed or not
	Survived     int // prepared transactions that were ended over another connection, since theirs was lost
	Failed       int // transactions that the database ended: deadlocks, outages
	Unknown      int // transactions whose commit got no answer
	Deleted      int // rows
	TakenBack    int // rows that the server confirmed, and has lost
}

// span is the rows of one act in a transaction that committed, or may have.
type span struct {
	first int64
	n     int32
	state state
	at    time.Time // when the commit was confirmed
	what  string
}

type state uint8

const (
	committed state = iota
	unknown         // the commit got no answer
	gone            // it did not commit, or the server took it back
)

func newLedger() *Ledger {
	return &Ledger{next: 1, deleted: map[int64]bool{}, acts: map[string]int{}}
}

// take reserves tokens.
func (l *Ledger) take(n int) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.next
	l.next += int64(n)
	return first
}

// Counts returns the numbers so far.
func (l *Ledger) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

// Acts returns how often each act was committed, by its name.
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

// end enters a transaction that committed, or may have.
func (l *Ledger) end(x *Txn, s state) {
	at := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, sp := range x.spans {
		sp.at, sp.state = at, s
		if x.prepared {
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
	if x.prepared {
		l.acts["prepared"]++
	}
}

// victims returns tokens of committed rows: of the newest rows, which may not have
// been read yet, or of any.
func (l *Ledger) victims(pick func(n int) int, newest bool) []int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.spans) < 2 {
		return nil
	}
	i := len(l.spans) - 1
	if !newest {
		i = 1 + pick(len(l.spans)-1) // the first may be what Upsert needs
	}
	s := l.spans[i]
	if s.state != committed {
		return nil
	}
	var tokens []int64
	for t := s.first; t < s.first+int64(s.n) && len(tokens) < 5; t++ {
		if !l.deleted[t] {
			tokens = append(tokens, t)
		}
	}
	return tokens
}

// settle asks the table which rows are there: those whose commit got no answer,
// and whether the others are.
func (l *Ledger) settle(ctx context.Context, db *sql.DB, t Table) error {
	there := map[int64]bool{}
	rows, err := db.QueryContext(ctx, "SELECT "+t.Token+" FROM "+t.Name)
	if err != nil {
		return fmt.Errorf("hostile: reading the rows there are: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var text sql.NullString
		if err := rows.Scan(&text); err != nil {
			return fmt.Errorf("hostile: reading the rows there are: %w", err)
		}
		token, err := strconv.ParseInt(text.String, 10, 64)
		if err != nil {
			return fmt.Errorf("hostile: a row with no token in %s is in the table: somebody else's, or of an act that takes none", t.Token)
		}
		if there[token] {
			return fmt.Errorf("hostile: token %d is in the table twice: an act inserts rows that are not its own", token)
		}
		there[token] = true
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("hostile: reading the rows there are: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.deleted, func(token int64, _ bool) bool { return there[token] }) // the delete did not commit
	l.count.Deleted = len(l.deleted)
	slices.SortFunc(l.spans, func(a, b span) int { return int(a.first - b.first) })
	var settled []span
	for _, s := range l.spans {
		for _, part := range s.split(there, l.deleted) {
			if part.state == committed && s.state == unknown {
				l.count.Committed += int(part.n)
			}
			if part.state == gone && s.state == committed {
				l.count.Committed -= int(part.n)
				l.count.TakenBack += int(part.n)
			}
			settled = append(settled, part)
		}
		for t := s.first; t < s.first+int64(s.n); t++ {
			delete(there, t)
		}
	}
	l.spans = settled
	for token := range there {
		return fmt.Errorf("hostile: token %d is in the table though its transaction did not commit", token)
	}
	return nil
}

// split cuts a span into parts that exist and parts that do not. It has
// more than one only where some of it was deleted.
func (s span) split(there, deleted map[int64]bool) []span {
	var parts []span
	for t := s.first; t < s.first+int64(s.n); t++ {
		st := committed
		if !there[t] && !deleted[t] {
			st = gone
		}
		if n := len(parts); n > 0 && parts[n-1].state == st {
			parts[n-1].n++
			continue
		}
		p := s
		p.first, p.n, p.state = t, 1, st
		parts = append(parts, p)
	}
	return parts
}

// find returns the span of a token.
func (l *Ledger) find(token int64) (span, bool) {
	i := sort.Search(len(l.spans), func(i int) bool { return l.spans[i].first > token }) - 1
	if i < 0 || token >= l.spans[i].first+int64(l.spans[i].n) {
		return span{}, false
	}
	return l.spans[i], true
}
