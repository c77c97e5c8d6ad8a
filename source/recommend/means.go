package recommend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source/changelog"
	"github.com/artifactofdevotion/devotion/source/diffsource"
	"github.com/artifactofdevotion/devotion/source/pglog"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
	"github.com/artifactofdevotion/devotion/source/xminsource"
)

const selects = "SELECT"

// xminScan reads row versions by the transactions that wrote them, and looks for deletes by key passes.
func xminScan(ctx context.Context, s subject) (Means, error) {
	if !s.postgres() {
		return Means{}, nil
	}
	m := Means{Name: "xmin scan", Package: "xminsource", Rights: selects, Allowed: s.relation.Grants.Read,
		Price: s.duration(0.1, 0.25) + " a poll", Note: "a poll scans the whole table; a key pass, which finds the deletes, takes " + s.duration(0.6, 1.5) +
			" and reads all keys by their index; Deletes needs a directory for the keys; rows wait for the oldest transaction of the cluster"}
	if !s.keyed() {
		return m, s.noKey()
	}
	promise, err := (&xminsource.Source{DB: s.db, Name: s.relation.Label(), Key: s.relation.Key, Deletes: &xminsource.Deletes{}, Logger: quiet()}).Promise(ctx)
	if err == nil {
		m.Delivers, m.Guarantee = Rows|Changes, promise.Text
	}
	return m, err
}

// diff compares passes over the table.
func diff(_ context.Context, s subject) (Means, error) {
	m := Means{Name: "diff", Package: "diffsource", Rights: selects, Allowed: s.relation.Grants.Read,
		Price: s.duration(4, 6) + " a pass", Note: "a pass reads the whole table; the state has 24 bytes for each row with an integer key" + s.state()}
	m.Delivers, m.Guarantee = Rows|Changes, diffsource.Promise().Text
	switch {
	case s.keyed() && s.relation.Nulls:
		m.Guarantee += "; a row with NULL in the key is an error"
	case s.keyed():
	case s.relation.Place != "":
		m.Guarantee += "; the table has no key, so rows are told apart by where they are stored, and a row that moves is a delete and an insert"
		m.Note += "; set Select to " + ByPlace(s.sql, s.relation) + " and Key to " + s.relation.Place + ": each page of 5,000 rows may sort the table"
	default:
		return m, s.noKey()
	}
	return m, nil
}

// ByPlace returns a SELECT of a relation without a key, with its Place as the first column, which is then the key.
func ByPlace(w dialect.Writer, r dialect.Relation) string {
	parts := []string{r.Name}
	if r.Schema != "" {
		parts = []string{r.Schema, r.Name}
	}
	return "SELECT t." + r.Place + " AS " + r.Place + ", t.* FROM " + dialect.QuoteAll(w, parts) + " AS t"
}

// changeTable records changes by triggers.
func changeTable(ctx context.Context, s subject) (Means, error) {
	m := Means{Name: "change table", Package: "changelog", Rights: "to create a table and triggers, once; then SELECT", Allowed: s.relation.Grants.Trigger,
		Price: "0.3 ms a poll", Note: "writing a single row takes up to twice as long, and its commit as long as before; a bulk statement takes 4 to 13 times as long"}
	if s.postgres() {
		m.Note = "writing a single row takes up to twice as long, and its commit as long as before; a bulk statement takes 2 to 5 times as long"
	}
	if s.relation.Kind != "table" {
		return m, fmt.Errorf("it is a %s, which has no triggers that record changes", s.relation.Kind)
	}
	t := &changelog.Table{DB: s.db, Name: s.relation.Label(), Key: s.relation.Key, Load: true, Logger: quiet()}
	g, err := t.Promise(ctx)
	if err != nil {
		return m, err
	}
	m.Delivers, m.Guarantee = Rows|Changes, g.Text
	if t.Check(ctx) == nil {
		m.Rights, m.Allowed = selects, s.relation.Grants.Read
		return m, nil
	}
	m.RunAs = "the table's owner"
	m.Script, err = t.Script(ctx)
	return m, err
}

// publication is the name of the publication and the slot in the statements for the log.
const publication = "devotion"

// log reads the database's log.
func log(ctx context.Context, s subject) (Means, error) {
	if !s.postgres() {
		return Means{}, nil
	}
	m := Means{Name: "log", Package: "pglog", Rights: "wal_level = logical, the attribute REPLICATION, and a publication with the table", Allowed: s.relation.Grants.Log,
		Price: "no scan", Note: "the server keeps the log until it is read, for all tables of the publication"}
	if s.relation.Kind != "table" {
		return m, fmt.Errorf("it is a %s, whose changes are not in the log", s.relation.Kind)
	}
	if s.relation.Branches {
		return m, errors.New("partitions or children of the table may lack a primary key: Postgres would refuse UPDATE and DELETE of one that is added later")
	}
	src := &pglog.Source{DB: s.db, Slot: publication, Publication: publication, Tables: []string{s.relation.Label()}, Logger: quiet()}
	defer src.Close()
	script, err := src.Setup(ctx)
	if script = strings.TrimSpace(script); script != "" {
		m.Script, m.RunAs = strings.Split(script, "\n"), "a superuser"
	}
	m.Delivers, m.Guarantee = Rows|Changes, pglog.Promise().Text
	return m, err
}

// keyset polls by the key, below the ceiling that fits it.
func keyset(ctx context.Context, s subject) (Means, error) {
	m := Means{Name: "keyset", Package: "sqlsource", Rights: selects, Allowed: s.relation.Grants.Read, Price: "0.3 ms a poll", Note: "whatever the size of the table"}
	if !s.keyed() {
		return m, s.noKey()
	}
	if !s.relation.Grants.Read {
		return m, errNoRights
	}
	c, err := s.table().Check(ctx, "")
	if err != nil {
		return m, err
	}
	if !c.Safe() {
		return m, errors.New(unsafe(c))
	}
	m.Name += " (" + c.Report.Strategy + ")"
	m.Delivers, m.Guarantee = Rows|Inserts, c.Report.Guarantee
	if c.Report.Updates == ceiling.UpdatesRead {
		m.Delivers |= Updates
	}
	return m, nil
}

// unsafe returns the reason why rows would be missed.
func unsafe(c *sqlsource.Check) string {
	for _, f := range append(c.Report.Findings, c.Findings...) {
		if f.Level == ceiling.Unsafe {
			return f.Text
		}
	}
	return "rows can be missed"
}

// snapshotOf reads the existing rows, once.
func snapshotOf(_ context.Context, s subject) (Means, error) {
	return Means{Name: "snapshot", Package: "snapshot", Rights: selects, Allowed: s.relation.Grants.Read, Delivers: Rows,
		Guarantee: "every row is read once, as of one moment of the whole database", Price: s.duration(1.5, 3) + ", once"}, nil
}

func (s subject) noKey() error {
	if s.relation.Kind == "table" {
		return errors.New("the table has no key: no primary key, and no unique index over columns that are NOT NULL, for all of its rows")
	}
	return fmt.Errorf("the catalogue knows no key of a %s: name the columns that tell its rows apart", s.relation.Kind)
}

func (s subject) postgres() bool { return s.sql.Name() == postgres.Dialect{}.Name() }

func (s subject) table() *sqlsource.Table {
	return &sqlsource.Table{DB: s.db, Name: s.relation.Label(), Key: s.relation.Key, Logger: quiet()}
}

// duration reckons how long it takes to read the table, by the seconds that a million rows take.
func (s subject) duration(least, most float64) string {
	if s.relation.Rows < 0 {
		return fmt.Sprintf("%v to %v s for a million rows", least, most)
	}
	seconds := func(perMillion float64) time.Duration {
		d := time.Duration(float64(s.relation.Rows) / 1e6 * perMillion * float64(time.Second))
		for _, unit := range []time.Duration{time.Minute, time.Second, 100 * time.Millisecond, 10 * time.Millisecond} {
			if d >= 10*unit {
				return d.Round(unit)
			}
		}
		return max(d.Round(time.Millisecond), time.Millisecond)
	}
	if least, most := seconds(least), seconds(most); least < most {
		return fmt.Sprintf("%s to %s", short(least), short(most))
	}
	return short(seconds(most))
}

// short writes a duration without parts that are zero.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = text[:len(text)-2]
	}
	if strings.HasSuffix(text, "h0m") {
		text = text[:len(text)-2]
	}
	return text
}

// state returns the size of the state of diff, in words.
func (s subject) state() string {
	if s.relation.Rows < 1000 {
		return ""
	}
	return ", here " + size(s.relation.Rows*24)
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// withoutPrefix returns the text of an error without the package and the table that it begins with.
func withoutPrefix(err error) string {
	text := retry.Text(err)
	for range 3 {
		head, rest, ok := strings.Cut(text, ": ")
		if !ok || strings.ContainsAny(head, " ,") {
			break
		}
		text = rest
	}
	return text
}
