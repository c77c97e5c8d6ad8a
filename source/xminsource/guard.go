package xminsource

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
)

// dialectOf is Postgres for a table whose history this package compares.
type dialectOf struct {
	postgres.Dialect
	calls atomic.Int64
}

// History returns a history in which each batch asks the ceiling again, because a piece of the
// list is good for one batch.
func (d *dialectOf) History(context.Context, ceiling.Queryer, []string, string) (dialect.History, error) {
	return dialect.History{Boot: strconv.FormatInt(d.calls.Add(1), 10)}, nil
}

// Marks returns nothing: a table may be rewritten, and its rows updated.
func (*dialectOf) Marks(context.Context, ceiling.Queryer, []string) (dialect.Marks, error) {
	return dialect.Marks{}, nil
}

// Unnoticed says what the history in a cursor does not show.
func (*dialectOf) Unnoticed() string {
	return "if the server's disk is restored, and its log passes the cursor's position again before the next poll, nothing shows it"
}

// guard is the ceiling of the table: it says which row versions the next batch may have.
type guard struct {
	source   *Source
	parts    []string // of the table's name
	name     string   // for SQL
	report   ceiling.Report
	key      []keyColumn
	octets   string        // how long a text is in UTF-8; %s stands for it
	only     sqlsource.Key // "", or the key of the row that is read alone
	position position      // of the batch
	from     source.Cursor // of the batch
	limit    int           // of the batch
	start    int           // where its piece of the list begins
	used     stamp         // what the batch relied on
	history  dialect.History
}

// keyColumn is a column of the key.
type keyColumn struct{ ref, typ string }

// stamp is what must not change while the places of row versions are used.
type stamp struct{ boot, members string }

// ceilingOf makes the guard a [ceiling.Ceiling].
type ceilingOf struct{ *guard }

func (ceilingOf) String() string { return "xmin" }

// Open implements [ceiling.Ceiling].
func (c ceilingOf) Open(ctx context.Context, db ceiling.Queryer, _ ceiling.Table) (ceiling.Guard, error) {
	return c.guard, c.probe(ctx, db)
}

// Report implements [ceiling.Guard].
func (g *guard) Report() ceiling.Report { return g.report }

// Advance implements [ceiling.Guard]. It compares the history on the connection that reads the rows
// next: another server may not have replayed all transactions below X1.
func (g *guard) Advance(ctx context.Context, db ceiling.Queryer, after []string) (ceiling.Limit, error) {
	s, p := g.source, g.position
	st, err := s.readState(ctx, db)
	if err == nil {
		err = s.refused(p.follows(st))
	}
	if err != nil {
		return ceiling.Limit{}, err
	}
	tree, err := g.readTree(ctx, db, p)
	if err != nil {
		return ceiling.Limit{}, err
	}
	g.used, g.history = stamp{st.history.Boot, tree.stamp()}, st.history
	if g.only != "" {
		if g.key, err = g.keyTypes(ctx, db); err != nil {
			return ceiling.Limit{}, err
		}
		where, args, err := g.equals(g.only)
		return ceiling.Limit{Where: where, Args: args}, err
	}
	if p.from == 0 {
		s.list = nil
		where, args := tree.condition(p)
		return ceiling.Limit{Where: where, Args: args}, nil
	}
	if !s.list.serves(p, g.from, g.used) {
		if s.list, err = s.scan(ctx, db, p, after); err != nil {
			return ceiling.Limit{}, err
		}
		s.list.reached(g.from, 0)
	}
	g.start = s.list.place(g.from)
	places := s.list.piece(g.start, g.limit)
	if len(places) == 0 {
		return ceiling.Limit{Nothing: true}, nil
	}
	where, args := tree.condition(p)
	found, list := tree.at(places)
	return ceiling.Limit{Where: where + " AND " + found, Args: append(args, list...)}, nil
}

// unchanged reports whether the table still has the files, and the server the start, that the list was made from. It
// also returns the server's state.
func (g *guard) unchanged(ctx context.Context, db queryer) (state, bool, error) {
	st, err := g.source.readState(ctx, db)
	if err != nil {
		return st, false, err
	}
	tree, err := g.readTree(ctx, db, g.position)
	return st, stamp{st.history.Boot, tree.stamp()} == g.used, err
}

// probe reads what does not change about the table, once, and refuses a table whose row versions do not show which
// transaction wrote them.
func (g *guard) probe(ctx context.Context, db queryer) error {
	if g.key != nil {
		return nil
	}
	s := g.source
	var schema, name string
	var version int
	var plain bool
	err := db.QueryRowContext(ctx, `SELECT n.nspname::text, c.relname::text, current_setting('server_version_num')::int, current_setting('server_encoding') IN ('UTF8', 'SQL_ASCII')
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1::text)`, g.name).Scan(&schema, &name, &version, &plain)
	if errors.Is(err, sql.ErrNoRows) {
		return s.permanent("the table does not exist, or the role may not use its schema")
	}
	if err != nil {
		return s.wrap(fmt.Errorf("reading what the database says about the table: %w", err))
	}
	r := ceiling.Report{Strategy: "xmin", Guarantee: s.promise(), Updates: ceiling.UpdatesRead, Indexed: true}
	r.AddIf(version < 130000, ceiling.Unsafe, ceiling.Advice("upgrade the server"), "snapshots have 64-bit ids from Postgres 13 on, and this is version %d", version/10000)
	if err := r.Err(ceiling.Table{Label: s.Name}); err != nil {
		return s.permanent("%w", err)
	}
	if _, err := g.readTree(ctx, db, position{}); err != nil {
		return err
	}
	key, err := g.keyTypes(ctx, db)
	if err != nil {
		return err
	}
	if g.octets = "octet_length(convert_to(%s, 'UTF8'))"; plain {
		g.octets = "octet_length(%s)"
	}
	g.report, g.key, s.label = r, key, schema+"."+name
	s.guarantee = &source.Guarantee{Name: r.Strategy, Text: r.Guarantee + "; " + (&dialectOf{}).Unnoticed()}
	return nil
}

// keyTypes reads the types of the key's columns without their lengths: a cast to char(1) would cut a value. The type of a domain
// is its base type: a new constraint of the domain does not hold for rows from before, if it is not validated.
func (g *guard) keyTypes(ctx context.Context, db queryer) (key []keyColumn, err error) {
	s := g.source
	for _, column := range s.Key {
		k := keyColumn{ref: "t." + postgres.Dialect{}.Quote(column)}
		err := db.QueryRowContext(ctx, `WITH RECURSIVE types(oid, n) AS (
				SELECT atttypid, 0 FROM pg_catalog.pg_attribute WHERE attrelid = to_regclass($1::text) AND attname = $2::text AND NOT attisdropped AND attnum > 0
				UNION ALL SELECT typbasetype, n + 1 FROM types JOIN pg_catalog.pg_type t ON t.oid = types.oid WHERE typtype = 'd'
			) SELECT format_type(oid, -1) FROM types ORDER BY n DESC LIMIT 1`, g.name, column).Scan(&k.typ)
		if errors.Is(err, sql.ErrNoRows) {
			return nil, s.permanent("the table has no column %q", column)
		}
		if err != nil {
			return nil, s.wrap(fmt.Errorf("reading the type of the key: %w", err))
		}
		key = append(key, k)
	}
	return key, nil
}

// promise is the promise, with or without deletes.
func (s *Source) promise() string {
	between, deletes := "is not seen, nor is a delete", ""
	if s.Deletes != nil {
		between = "is not seen"
		deletes = "; a delivered key that the table does not have any more is delivered as a Delete by the first key pass that begins after that, unless a row with the key " +
			"is there again by then; after a crash a Delete can also come for a row that was read and not delivered"
	}
	return "each committed insert and update is delivered as the row is when a pass reads it, and each version that is read comes once; " +
		"a version that is overwritten between two passes " + between + deletes + "; a row waits for each transaction that has written anything, in any database of the cluster, " +
		"and had an id before its own; a row that stays as it is for 2^32 transaction ids, a table that is rewritten by ALTER TABLE and a partition that is attached come again"
}
