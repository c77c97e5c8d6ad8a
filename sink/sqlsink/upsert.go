package sqlsink

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// addKey adds a unique key, whose columns are an array in JSON.
func (t *table) addKey(names string, usable bool) error {
	t.unique++
	if !usable {
		return nil
	}
	var key []string
	err := json.Unmarshal([]byte(names), &key)
	t.keys = append(t.keys, key)
	return err
}

// identify finds the fields of the key.
func (p *plan) identify(into *table, key []string, tr traits) error {
	if len(key) == 0 {
		if len(into.keys) == 0 {
			return dialect.Permanent("the table has no primary key and no unique key by which rows can be found: create one")
		}
		key = into.keys[0]
	}
	columns := make([]*column, len(key))
	for i, name := range key {
		if columns[i] = into.column(name, tr.anyCase); columns[i] == nil {
			return dialect.Permanent("the table has no column %q, which Options.Key names", name)
		}
		n := slices.IndexFunc(p.fields, func(f field) bool { return f.column == columns[i] })
		if n < 0 {
			return dialect.Permanent("the source has no column %q, which identifies a row", name)
		}
		p.key, p.fields[n].inKey = append(p.key, n), true
	}
	if !slices.ContainsFunc(into.keys, func(k []string) bool { return sameSet(k, columns) }) {
		return dialect.Permanent("the table has no unique key of the columns %q alone: create a unique index on them", key)
	}
	p.others = into.unique > 1
	for _, f := range p.fields {
		if p.use != deletes && f.always && !f.inKey {
			return dialect.Permanent("the column %q is GENERATED ALWAYS AS IDENTITY and cannot be updated: do not read it, or make it BY DEFAULT", f.name)
		}
	}
	return nil
}

// sameSet reports whether a unique key has these columns and no others.
func sameSet(key []string, columns []*column) bool {
	return len(key) == len(columns) && !slices.ContainsFunc(columns, func(c *column) bool { return !slices.Contains(key, c.name) })
}

// sets returns the assignments of all columns but the key's, with %s for the column in value.
func (p *plan) sets(w interface{ Quote(string) string }, value string) string {
	var sets []string
	for _, f := range p.fields {
		if !f.inKey {
			name := w.Quote(f.name)
			sets = append(sets, name+" = "+strings.ReplaceAll(value, "%s", name))
		}
	}
	return strings.Join(sets, ", ")
}

// onConflict returns the clause of Postgres and SQLite for a key that exists.
func (p *plan) onConflict(w interface{ Quote(string) string }) string {
	if p.key == nil {
		return ""
	}
	var key []string
	for _, n := range p.key {
		key = append(key, w.Quote(p.fields[n].name))
	}
	clause := " ON CONFLICT (" + strings.Join(key, ", ") + ") DO "
	if sets := p.sets(w, "EXCLUDED.%s"); sets != "" {
		return clause + "UPDATE SET " + sets
	}
	return clause + "NOTHING"
}

// lasts returns the last row of each key, in their order.
func (p *plan) lasts(rows []row.Row) []row.Row {
	if p.key == nil {
		return rows
	}
	last, keys := make(map[string]int, len(rows)), make([]string, len(rows))
	var b []byte
	for i, r := range rows {
		b = p.appendKey(b[:0], r)
		keys[i] = string(b)
		last[keys[i]] = i
	}
	if len(last) == len(rows) {
		return rows
	}
	var kept []row.Row
	for i, r := range rows {
		if last[keys[i]] == i {
			kept = append(kept, r)
		}
	}
	return kept
}

// appendKey appends the key of a row, so that different keys append different bytes.
func (p *plan) appendKey(b []byte, r row.Row) []byte {
	for _, n := range p.key {
		text := r.Text(p.fields[n].index)
		b = append(b, strings.ReplaceAll(strings.ReplaceAll(text, "\\", `\\`), "\x00", `\0`)...)
		b = append(b, 0)
	}
	return b
}
