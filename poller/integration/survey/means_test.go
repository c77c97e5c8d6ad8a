package survey

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/diffsource"
	"github.com/artifactofdevotion/devotion/source/recommend"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/snapshot"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/builtin"
	"github.com/artifactofdevotion/devotion/source/xminsource"
)

// follower is a means that follows a table.
type follower struct {
	name   string
	source source.Source[row.Change]
	close  func() error
	at     source.Cursor
}

func (d database) source(t table) *sqlsource.Table {
	return &sqlsource.Table{DB: d.DB, Name: t.Label(), Key: t.Key, Logger: slog.New(slog.DiscardHandler)}
}

// followers returns the means that need SELECT alone.
func (d database) followers(t *testing.T, tb table) (list []*follower) {
	of := d.source(tb)
	if tb.Key == nil {
		sql, err := builtin.Find(d.DB)
		require.NoError(t, err)
		of.Select, of.Key = recommend.ByPlace(sql, tb.Relation), []string{tb.Place}
	}
	diff := &diffsource.Source{Table: of, Dir: t.TempDir()}
	list = append(list, &follower{name: "diff", source: diff, close: diff.Close})
	if d.engine == "postgres" && tb.Kind == "table" && tb.Key != nil {
		xmin := &xminsource.Source{DB: d.DB, Name: tb.Label(), Key: tb.Key, Deletes: &xminsource.Deletes{Dir: t.TempDir()}, Logger: slog.New(slog.DiscardHandler)}
		list = append(list, &follower{name: "xmin", source: xmin, close: xmin.Close})
	}
	return list
}

// poll reads the new changes.
func (f *follower) poll() (list []row.Change, err error) {
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for end := time.After(time.Minute); ; {
		b, err := f.source.Fetch(context(), f.at, 1000)
		if err != nil {
			return list, err
		}
		list, f.at = append(list, b.Records...), b.To
		switch {
		case b.More:
			continue
		case b.Held == nil:
			return list, nil
		}
		select {
		case <-again.C:
		case <-end:
			return list, fmt.Errorf("rows are still held back by %q", b.Held.By)
		}
	}
}

// follow lets an application write, and requires that a means delivers its changes.
func (d database) follow(r *result, a *application, f *follower, round int) (outcome, bool) {
	defer f.close() //nolint:errcheck // the directory is removed
	first, err := f.poll()
	if err != nil {
		r.note("%s: %v", f.name, err)
		return nil, false
	}
	if n := a.count("1 = 1"); fmt.Sprint(len(first)) != n {
		r.wrong = append(r.wrong, fmt.Sprintf("%s: %s: %d rows were delivered of %s", r.table.Label(), f.name, len(first), n))
	}
	if a.rows == 0 {
		return nil, true
	}
	o := a.write(round)
	changes, err := f.poll()
	if err != nil {
		r.note("%s: %v", f.name, err)
		return o, false
	}
	own, ok := d.arrived(r, a, f, changes, o)
	gone := a.remove()
	o["delete"] = gone["delete"]
	changes, err = f.poll()
	if err != nil {
		r.note("%s: after a delete: %v", f.name, err)
		return o, false
	}
	if gone["delete"] == "1" && o["insert"] == "1" {
		found := false
		for _, c := range changes {
			found = found || c.Op == row.Delete && own.Len() > 0 && c.Key.Equal(own)
		}
		if !found {
			r.wrong = append(r.wrong, fmt.Sprintf("%s: %s: the delete did not arrive: %v", r.table.Label(), f.name, changes))
		}
		ok = ok && found
	}
	return o, ok
}

// arrived requires that the insert and the edit of an old row are among changes, with the present
// values. It returns the key of the inserted row.
func (d database) arrived(r *result, a *application, f *follower, changes []row.Change, o outcome) (own row.Row, ok bool) {
	last := map[string]row.Change{}
	for _, c := range changes {
		key, _ := c.Key.AppendJSON(nil)
		last[string(key)] = c
	}
	inserted, known := a.key(seeds + 1)
	old, _ := a.key(1)
	var insert, edit bool
	for _, c := range last {
		if c.Op == row.Delete {
			continue
		}
		r.wrong = append(r.wrong, prefixed(f.name, d.wrong(a.t, c.Row))...)
		if known && d.holds(a.t, c.Row, inserted) {
			own, insert = c.Key, true
		}
		edit = edit || known && d.holds(a.t, c.Row, old)
	}
	ok = true
	if o["insert"] == "1" && !insert && known {
		ok = false
		r.wrong = append(r.wrong, fmt.Sprintf("%s: %s: the insert did not arrive: %v", r.table.Label(), f.name, changes))
	}
	if o["edit of an old row"] == "1" && !edit {
		ok = false
		r.wrong = append(r.wrong, fmt.Sprintf("%s: %s: the edit of an old row did not arrive: %v", r.table.Label(), f.name, changes))
	}
	return own, ok
}

func prefixed(name string, list []string) (all []string) {
	for _, text := range list {
		all = append(all, name+": "+text)
	}
	return all
}

// snapshot reads all rows, and compares them with the table.
func (d database) snapshot(r *result) {
	src := &snapshot.Rows{Options: snapshot.Options{DB: d.DB, Logger: slog.New(slog.DiscardHandler)}, Table: snapshot.Table{Name: r.table.Label()}}
	defer src.Close()
	var at source.Cursor
	var rows []row.Row
	for {
		b, err := src.Fetch(context(), at, 1000)
		if errors.Is(err, source.ErrEnd) {
			break
		} else if err != nil {
			r.note("snapshot: %v", err)
			return
		}
		rows, at = append(rows, b.Records...), b.To
	}
	r.rows = len(rows)
	for i, row := range rows {
		if i == compared {
			break
		}
		r.wrong = append(r.wrong, prefixed("snapshot", d.wrong(r.table, row))...)
	}
	var n int
	if d.Get(&n, "SELECT count(*) FROM "+r.table.sql) == nil && n != len(rows) {
		r.wrong = append(r.wrong, fmt.Sprintf("%s: snapshot: %d rows were read of %d", r.table.Label(), len(rows), n))
	}
	r.snapshot = true
}

// compared is how many rows of a table are compared.
const compared = 50
