package survey

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// application is an application whose authors did not expect that its table is read. It inserts
// without naming columns, updates under an optimistic lock, edits an old row, and deletes.
type application struct {
	d         database
	t         table
	style     style
	base      int     // its rows have the numbers after it
	filled    bool    // the schema's file brought rows
	rows      int     // of the application; 0: no style of values was accepted
	name      column  // by which it knows the rows of a table without a key; without a name if no column is free for it
	lock      column  // of the optimistic lock; without a name if the table has no column for it
	edit      column  // of the old row
	outcome   outcome // of its statements before anything was installed
	untrigged bool    // the schema's own triggers refused all rows, and were disabled
}

// seeds is how many rows an application has. The next one it inserts and deletes.
const seeds = 4

// settle finds values that the schema accepts, and inserts the rows with them.
func (d database) settle(t table) *application {
	a := &application{d: d, t: t}
	if d.Get(&a.filled, "SELECT EXISTS (SELECT 1 FROM "+t.sql+")") != nil {
		a.filled = true
	}
	if t.Kind != "table" {
		return a
	}
	best := a.search()
	if best == 0 && d.engine == "postgres" {
		if _, err := d.Exec("ALTER TABLE " + t.sql + " DISABLE TRIGGER USER"); err == nil {
			a.untrigged = true
			best = a.search()
		}
	}
	for i := range min(best, seeds) {
		if _, err := d.Exec(d.insert(t, a.style, a.base+1+i)); err == nil {
			a.rows++
		}
	}
	a.chooseColumns()
	return a
}

// search finds the style of which the most rows are accepted, and returns how many.
func (a *application) search() (best int) {
	var base int
	for n := range styles {
		s := style{n}
		if a.base = 0; a.filled && n < styles/2 {
			a.base = 100
		} else if a.filled {
			a.base = 5000
		}
		tx, err := a.d.Beginx()
		if err != nil {
			return best
		}
		accepted := 0
		for i := range seeds + 1 {
			if _, err := tx.Exec(a.d.insert(a.t, s, a.base+1+i)); err != nil {
				break
			}
			accepted++
		}
		tx.Rollback()
		if a.d.engine == "mariadb" && !a.filled { // not every engine rolls back
			a.d.Exec("DELETE FROM " + a.t.sql) //nolint:errcheck // the rows of a table that cannot be emptied stay
		}
		if accepted > best {
			best, a.style, base = accepted, s, a.base
		}
		if best > seeds {
			break
		}
	}
	a.base = base
	return best
}

var lockName = regexp.MustCompile(`(?i)version|lock|updated|modified|mtime|changed|last_update`)

// chooseColumns chooses the columns of the updates: not those of the key, and with values that can
// be compared.
func (a *application) chooseColumns() {
	var free []column
	for _, c := range a.t.columns {
		number := regexp.MustCompile(`int|numeric|decimal|text|char|time|date|real|double`).MatchString(c.Base)
		if number && !a.t.inKey(c.Name) && !c.Computed && !c.Hidden && !c.Array && c.Labels == "" && !strings.Contains(c.Base, "range") && !strings.Contains(c.Base, "interval") {
			free = append(free, c)
		}
	}
	if a.t.Key == nil && len(free) > 1 { // it knows its rows by a column
		a.name, free = free[0], free[1:]
	}
	if free == nil {
		return
	}
	a.lock = free[0]
	for _, c := range free {
		if !lockName.MatchString(c.Name) { // which a trigger may set back
			a.edit = c
		}
	}
	if i := slices.IndexFunc(free, func(c column) bool { return lockName.MatchString(c.Name) }); i >= 0 {
		a.lock = free[i]
	}
}

// key returns the condition for a row, and whether it is known.
func (a *application) key(i int) (string, bool) {
	if a.t.Key == nil && a.name.Name != "" {
		return a.d.quote(a.name.Name) + " = " + a.style.literal(a.d.engine, a.name, a.base+i), true
	}
	var parts []string
	for _, k := range a.t.Key {
		c := a.t.column(k)
		if c.Computed && len(a.t.Key) == 1 { // the database drew it
			end := "min"
			if i > seeds {
				end = "max"
			}
			return fmt.Sprintf("%s = (SELECT * FROM (SELECT %s(%[1]s) FROM %[3]s) AS x)", a.d.quote(k), end, a.t.sql), true
		} else if c.Computed {
			return "", false
		}
		parts = append(parts, a.d.quote(k)+" = "+a.style.literal(a.d.engine, c, a.base+i))
	}
	return strings.Join(parts, " AND "), parts != nil
}

// outcome is the result of each statement of an application, by its name: how many rows it changed, or
// why it failed.
type outcome map[string]string

func (o outcome) run(d database, name, statement string) {
	result, err := d.Exec(statement)
	if err != nil {
		o[name] = err.Error()
		return
	}
	n, _ := result.RowsAffected()
	o[name] = fmt.Sprint(n)
}

// write inserts a row, updates it twice under an optimistic lock, and edits an old row. It reports what
// came of it, and whether the row and the old one have the values that were written.
func (a *application) write(round int) outcome {
	o := outcome{}
	next := seeds + 1
	o.run(a.d, "insert", a.d.insertPlain(a.t, a.style, a.base+next))
	own, known := a.key(next)
	old, _ := a.key(1)
	if !known {
		return o
	}
	set := func(c column, n int, where string) string {
		return fmt.Sprintf("UPDATE %s SET %s = %s WHERE %s", a.t.sql, a.d.quote(c.Name), a.style.literal(a.d.engine, c, a.base+n), where)
	}
	holds := func(c column, n int) string {
		return a.d.quote(c.Name) + " = " + a.style.literal(a.d.engine, c, a.base+n)
	}
	if a.lock.Name != "" {
		first, second := 6+2*round, 7+2*round
		o.run(a.d, "lock", set(a.lock, first, own))
		o.run(a.d, "optimistic update", set(a.lock, second, own+" AND "+holds(a.lock, first)))
		o.run(a.d, "second optimistic update", set(a.lock, first, own+" AND "+holds(a.lock, second)))
		o["kept"] = a.count(own + " AND " + holds(a.lock, first))
		if a.edit.Name != "" {
			n := 6 + 3*round // some styles have two values only, and MariaDB counts rows that change
			o.run(a.d, "edit of an old row", set(a.edit, n, old))
			o["old kept"] = a.count(old + " AND " + holds(a.edit, n))
		}
	}
	return o
}

// remove deletes the row that write inserted.
func (a *application) remove() outcome {
	o := outcome{}
	if own, known := a.key(seeds + 1); known {
		o.run(a.d, "delete", "DELETE FROM "+a.t.sql+" WHERE "+own)
	}
	return o
}

func (a *application) count(where string) string {
	var n int
	if err := a.d.Get(&n, "SELECT count(*) FROM "+a.t.sql+" WHERE "+where); err != nil {
		return err.Error()
	}
	return fmt.Sprint(n)
}

// broken lists the statements that worked before and do not after.
func (o outcome) broken(after outcome) (list []string) {
	for _, name := range slices.Sorted(maps.Keys(o)) {
		if o[name] == "1" && after[name] != "1" {
			list = append(list, fmt.Sprintf("%s: %s before, %s after", name, o[name], after[name]))
		}
	}
	return list
}
