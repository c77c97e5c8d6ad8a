package recommend

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/internal/dberr"
	"github.com/artifactofdevotion/devotion/source/sqlsource/builtin"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// Table is a table or a view, and how it can be read.
type Table struct {
	dialect.Relation
	Means []Means // the best first, those that are refused last
}

// Delivers is the set of things that a means delivers.
type Delivers uint8

// What a means delivers.
const (
	Rows    Delivers = 1 << iota // the existing rows
	Inserts                      // rows that are inserted later
	Updates                      // rows that are updated later
	Deletes                      // the keys of rows that are deleted later

	Changes = Inserts | Updates | Deletes
)

// String returns words such as "inserts, updates".
func (d Delivers) String() string {
	if d == Rows {
		return "existing rows"
	}
	var words []string
	for i, word := range []string{"inserts", "updates", "deletes"} {
		if d&(Inserts<<i) != 0 {
			words = append(words, word)
		}
	}
	return strings.Join(words, ", ")
}

// Means is a way to read a table.
type Means struct {
	Name      string   // such as "xmin scan"
	Package   string   // that has it, such as "xminsource"
	Delivers  Delivers // nothing: see Refused
	Guarantee string   // in a sentence
	Price     string   // of a poll, at the table's size
	Note      string   // its other costs
	Rights    string   // that it needs
	Allowed   bool     // the present role has the rights, and the server the settings
	Script    []string // statements to run first; nil: none
	RunAs     string   // who has the rights for Script, such as "the table's owner"
	Refused   string   // why the table cannot be read like this; "": it can
}

// Complete reports whether a means delivers every insert, update and delete.
func (m Means) Complete() bool { return m.Refused == "" && m.Delivers&Changes == Changes }

// Plain reports whether a means needs neither statements nor rights beyond SELECT.
func (m Means) Plain() bool { return m.Refused == "" && m.Script == nil && m.Allowed }

// Tables returns the tables and views whose names match a pattern, in the order of their names. In
// a pattern * and % stand for any text. "" and "*" match all, and a pattern without a dot matches
// the name in any schema. Where there are no schemas, the name of the database stands for one: "main" on SQLite.
// It reads catalogues, and no row of a table; on MySQL and MariaDB a statement for each table asks whether the role
// may read it. An error means that the database could not be asked; what is wrong with a table is in its Means.
func Tables(ctx context.Context, db *sqlx.DB, pattern string) ([]Table, error) {
	d, err := builtin.Find(db)
	if err != nil {
		return nil, fmt.Errorf("recommend: %w", err)
	}
	relations, err := listed(ctx, db, d)
	if err != nil {
		return nil, fmt.Errorf("recommend: %w", err)
	}
	var tables []Table
	for _, r := range relations {
		if !matches(r, pattern) {
			continue
		}
		t, err := Of(ctx, db, r)
		if err != nil {
			return nil, err
		}
		tables = append(tables, t)
	}
	return tables, nil
}

func listed(ctx context.Context, db *sqlx.DB, d dialect.Catalogue) ([]dialect.Relation, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return d.Relations(ctx, conn)
}

// matches reports whether a relation's name matches a pattern. Its exact name always
// matches.
func matches(r dialect.Relation, pattern string) bool {
	if pattern == "" || pattern == r.Label() || pattern == r.Name {
		return true
	}
	name := r.Name
	if strings.Contains(pattern, ".") {
		name = cmp.Or(r.Schema, r.Database) + "." + r.Name
	}
	escape := strings.NewReplacer("%", "*", `\`, `\\`, "[", `\[`, "?", `\?`)
	ok, _ := path.Match(strings.ReplaceAll(escape.Replace(pattern), "/", "\x00"), strings.ReplaceAll(name, "/", "\x00"))
	return ok
}

// IsPattern reports whether a name stands for several tables.
func IsPattern(name string) bool { return name == "" || strings.ContainsAny(name, "*%") }

// Of returns the means for one relation. With another Key than that of the catalogue, such as one of a
// view, the rows are told apart by it.
func Of(ctx context.Context, db *sqlx.DB, r dialect.Relation) (Table, error) {
	s := subject{db: db, relation: r}
	var err error
	if s.sql, err = builtin.Find(db); err != nil {
		return Table{}, fmt.Errorf("recommend: %w", err)
	}
	t := Table{Relation: r}
	for _, find := range []func(context.Context, subject) (Means, error){xminScan, diff, changeTable, log, keyset, snapshotOf} {
		m, err := find(ctx, s)
		if ctx.Err() != nil || disconnected(err) {
			return Table{}, fmt.Errorf("recommend: %s: %w", r.Label(), cmp.Or(err, ctx.Err()))
		}
		if !r.Grants.Read && dberr.SQLState(err) == "42501" { // insufficient_privilege
			err = errNoRights
		}
		if err != nil {
			m.Refused, m.Delivers, m.Guarantee, m.Script, m.RunAs = withoutPrefix(err), 0, "", nil, ""
		}
		if m.Name != "" {
			t.Means = append(t.Means, m)
		}
	}
	if err := s.addGrants(ctx, t.Means); err != nil {
		return Table{}, err
	}
	slices.SortStableFunc(t.Means, func(a, b Means) int { return rank(a) - rank(b) })
	return t, nil
}

// disconnected reports whether an error says nothing about the table, because the connection failed.
func disconnected(err error) bool {
	var network net.Error
	if errors.As(err, &network) && !errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	for _, lost := range []error{driver.ErrBadConn, sql.ErrConnDone, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, lost) {
			return true
		}
	}
	state := dberr.SQLState(err)
	return strings.HasPrefix(state, "08") || strings.HasPrefix(state, "57P") || state == "53300" // too many connections
}

// rank orders means: the complete ones first, and among them those that need SELECT alone; then those
// that deliver more.
func rank(m Means) int {
	switch {
	case m.Refused != "":
		return 9
	case m.Complete() && m.Plain():
		return 0
	case m.Complete() && m.Allowed:
		return 1
	case m.Complete():
		return 2
	case m.Delivers&Changes == Inserts|Updates:
		return 3
	case m.Delivers&Changes == Inserts:
		return 4
	}
	return 5
}

// subject is a relation in question.
type subject struct {
	db       *sqlx.DB
	sql      dialect.Dialect
	relation dialect.Relation
}

// keyed reports whether it has a key.
func (s subject) keyed() bool { return len(s.relation.Key) > 0 }
