package sqlsource

import (
	"context"
	"errors"
	"time"
)

// Auditor looks again at what lies behind the cursor, for rows that appeared
// there after the reading had passed: late rows, which no reading by key sees. A
// ceiling rules them out for writers that keep to its assumptions; an Auditor is
// for tables whose writers may not, and finds them out.
//
// It remembers the keys that were handed out last, and reads those of the table
// between the first of them and the cursor, by the index that the key has. A key
// that was not handed out is late. What was deleted is no alarm, nor is a row
// that was handed out, deleted, and added again under its key. One Auditor may
// serve any number of tables.
type Auditor struct {
	// Rows is how many keys to remember, 16 bytes for each; those of the last
	// batch come on top. A late row is found if there are fewer above it when the
	// look comes: choose more than are added in Every and the longest delay you
	// look for. When a source begins it reads back as many keys from the cursor,
	// for which a Where that few rows meet may cost it much of the table. 0 means
	// DefaultAuditRows.
	Rows int

	// Window forgets keys that were handed out longer ago than this, even if they
	// are fewer than Rows. 0 forgets none.
	Window time.Duration

	// Every is how long after one look the next one begins, in a Fetch. A Fetch
	// looks at 20,000 keys or so, and leaves the rest to the next. 0 means
	// DefaultAuditEvery.
	Every time.Duration

	// Late, if not nil, is called with the late rows that a look found, from
	// within Fetch, which has a connection of the pool: it must not call Fetch,
	// delays it, and waits in vain for a connection if the pool has only one. A
	// line in the log, once a minute at most, says so too.
	Late func(context.Context, Late)

	// Deliver hands late rows out, in batches of their own, in the order of their
	// keys, each row once. What the source noticed and did not hand out before
	// the process ended is not noticed by the next one.
	Deliver bool
}

// What the zero values of an Auditor's fields mean.
const (
	DefaultAuditRows  = 100_000
	DefaultAuditEvery = 30 * time.Second
)

// Late is what a look found: rows that appeared behind the cursor.
type Late struct {
	// Keys are the late rows' keys, in order: for each column of the key its
	// text, as in cursors (binary strings in hex). There are never more than a
	// few thousand; what a look finds beyond comes in a further call.
	Keys [][]string

	Total   int64     // late rows found since the source began, these included
	Behind  int       // keys handed out above the first of them, as far as they are remembered
	Passed  time.Time // when the reading passed the first of them, or the process began
	Noticed time.Time // when the look found them: they appeared before
}

func (a *Auditor) check() error {
	if a != nil && (a.Rows < 0 || a.Window < 0 || a.Every < 0) {
		return errors.New("Audit: Rows, Window or Every is negative")
	}
	return nil
}
