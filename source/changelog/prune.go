package changelog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/artifactofdevotion/devotion/source"
)

const (
	// kept is how many changes before the saved cursor Prune leaves: they prove to package sqlsource,
	// after a failover for example, that the cursor belongs to the database.
	kept = 1000

	// pruned is how many changes one statement deletes, so that it is short.
	pruned = 1000
)

// Prune deletes changes that every reader of the change table has saved, and returns how many
// it has deleted. saved are the saved cursors of all readers: those that their checkpointers
// hold, and not those of the last Fetch, which is one batch ahead. If a reader has not saved a
// change yet, Prune deletes nothing. It leaves the last 1,000 changes, so the change table is
// never empty and its numbers are never drawn again. It deletes in statements that take milliseconds.
//
// Prune needs SELECT and DELETE on the change table only, see Grants. db is a pool of that
// role; nil means DB.
func (t *Table) Prune(ctx context.Context, db *sql.DB, saved ...source.Cursor) (n int64, err error) {
	r, err := t.pruning(ctx)
	if err != nil || len(saved) == 0 {
		return 0, err
	}
	if db == nil {
		db = t.DB.DB
	}
	bound, err := r.bound(ctx, db, saved)
	for bound > 0 && err == nil {
		limit := r.facts.sql.Limit(pruned)
		statement := fmt.Sprintf("DELETE FROM %s WHERE seq < %d ORDER BY seq %s", r.store, bound, limit)
		if _, my := r.facts.more.(*myFacts); !my {
			statement = fmt.Sprintf("DELETE FROM %s WHERE seq IN (SELECT seq FROM %[1]s WHERE seq < %d ORDER BY seq %s)", r.store, bound, limit)
		}
		var deleted int64
		var result sql.Result
		if result, err = db.ExecContext(ctx, statement); err == nil {
			deleted, err = result.RowsAffected()
			n += deleted
		}
		if deleted < pruned {
			break
		}
	}
	if err != nil {
		err = fmt.Errorf("changelog: %s: pruning %s: %w", r.label, r.store, err)
	}
	return n, err
}

// pruning returns the reader. The parts of it that Prune needs do not change afterwards.
func (t *Table) pruning(ctx context.Context) (*reader, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reader == nil {
		if err := t.check(ctx); err != nil {
			return nil, err
		}
	}
	return t.reader, nil
}

// bound returns the number of the first change that must stay, 0 if all must.
func (r *reader) bound(ctx context.Context, db *sql.DB, saved []source.Cursor) (int64, error) {
	least := int64(-1)
	for _, c := range saved {
		if c == "" {
			return 0, nil
		}
		p, err := decode(c, r.label)
		if err != nil {
			return 0, err
		}
		seq, err := r.number(p)
		if err != nil || seq == 0 {
			return 0, err
		}
		if least < 0 || seq < least {
			least = seq
		}
	}
	var bound int64
	err := db.QueryRowContext(ctx, fmt.Sprintf("SELECT seq FROM %s WHERE seq <= %d ORDER BY seq DESC LIMIT 1 OFFSET %d", r.store, least, kept-1)).Scan(&bound)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return bound, err
}

// number returns the number of the change at a position, 0 if that stands before the first.
func (r *reader) number(p position) (n int64, err error) {
	if p.loading || p.inner == "" {
		return 0, nil
	}
	if _, err = fmt.Sscanf(r.seq(p.inner), "%d", &n); err != nil {
		return 0, permanent("%s: the cursor holds no change", r.label)
	}
	return n, nil
}
