package sqlsource

import (
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
)

type Inner struct{ City string }

// Records share no memory, nor does what they point to.
func TestBinding(t *testing.T) {
	t.Parallel()
	type record struct {
		ID int64
		*Inner
		Note *string
		Raw  []byte `db:"bytes"`
	}
	b, err := newBinding[record](open(t, &fake{}), []string{"id", "city", "note", "bytes"})
	require.NoError(t, err)
	dest := make([]any, 4)
	b.bind(dest)
	for i, city := range []string{"Ulm", "Bonn"} {
		*dest[0].(*int64) = int64(i)
		*dest[1].(*string) = city
		if i == 0 {
			*dest[2].(**string) = &city
			*dest[3].(*[]byte) = []byte{1, 2, 3}
		} else { // as Scan does for NULL
			*dest[2].(**string), *dest[3].(*[]byte) = nil, nil
		}
		size := b.add()
		require.Greater(t, size, 8)
	}
	got := b.take(2)
	ulm := "Ulm"
	require.Equal(t, []record{{0, &Inner{"Ulm"}, &ulm, []byte{1, 2, 3}}, {1, &Inner{"Bonn"}, nil, nil}}, got)
	require.Len(t, b.take(1), 1)
}

func TestBindingOfOneColumn(t *testing.T) {
	t.Parallel()
	db := open(t, &fake{})
	b, err := newBinding[time.Time](db, []string{"at"})
	require.NoError(t, err)
	dest := make([]any, 1)
	b.bind(dest)
	now := time.Now()
	*dest[0].(*time.Time) = now
	b.add()
	require.Equal(t, []time.Time{now}, b.take(1))
	_, err = newBinding[sql.NullString](db, []string{"a", "b"})
	require.ErrorContains(t, err, "takes one column")
}

func TestBindingRefuses(t *testing.T) {
	t.Parallel()
	db := open(t, &fake{})
	_, err := newBinding[struct{ ID int }](db, []string{"id", "other"})
	require.ErrorContains(t, err, `no field for the column "other"`)
	_, err = newBinding[map[string]any](db, []string{"id"})
	require.ErrorContains(t, err, "not supported")
	_, err = newBinding[*struct{ ID int }](db, []string{"id"})
	require.ErrorContains(t, err, "not supported")
	_, err = newBinding[any](db, []string{"id"})
	require.ErrorContains(t, err, "not supported")
	type hidden struct{ City string }
	_, err = newBinding[struct{ *hidden }](db, []string{"city"})
	require.ErrorContains(t, err, "not exported")
	byValue, err := newBinding[struct{ hidden }](db, []string{"city"})
	require.NoError(t, err)
	byValue.bind(make([]any, 1))
	_, err = newBinding[struct{ ID sql.RawBytes }](db, []string{"id"})
	require.ErrorContains(t, err, "sql.RawBytes")
}

// A field reached through a pointer is a new one for each row, also where a statement has extra columns.
func TestQueryThroughAPointer(t *testing.T) {
	t.Parallel()
	f := &fake{columns: []string{"id", "city"}, rows: [][]driver.Value{{int64(1), int64(1), "Ulm"}, {int64(2), int64(2), "Bonn"}}}
	type record struct {
		ID int
		*Inner
	}
	q := &Query[record]{DB: open(t, f), Select: "select 1", Key: []string{"id"}, Ceiling: ceiling.None{}, Dialect: postgres.Dialect{},
		Logger: slog.New(slog.DiscardHandler)}
	b, err := q.Fetch(t.Context(), "", 10)
	require.NoError(t, err)
	require.Equal(t, []record{{1, &Inner{"Ulm"}}, {2, &Inner{"Bonn"}}}, b.Records)
}

// The digest of a row does not copy its values, which can be large.
func TestDigestsCopyNothing(t *testing.T) {
	large := make([]byte, 8<<20)
	type record struct {
		Text  string
		Maybe sql.NullString
		Bytes []byte
		Raw   json.RawMessage
	}
	names := []string{"text", "maybe", "bytes", "raw"}
	b, err := newBinding[record](open(t, &fake{}), names)
	require.NoError(t, err)
	r := record{string(large), sql.NullString{String: string(large), Valid: true}, large, large}
	one, err := row.Of(row.NewColumns(names[:1], nil), r.Text)
	require.NoError(t, err)

	var columns []dialect.Column
	for _, name := range names {
		columns = append(columns, dialect.Column{Name: name})
	}
	digest := func(r record) digest {
		return digestOf(columns, nil, func(i int) uint32 { return b.digest(r, i) })
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got := digest(r)
	again := digestOf(columns[:1], nil, func(i int) uint32 { return rowRecords{}.digest(one, i) })
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(len(large)/2))
	require.NotZero(t, again)

	for i, change := range []func(*record){
		func(r *record) { r.Text = "" }, func(r *record) { r.Maybe.Valid, r.Maybe.String = false, "" }, func(r *record) { r.Bytes = nil },
		func(r *record) { r.Raw = nil },
	} {
		other := r
		change(&other)
		require.NotEqual(t, got, digest(other), names[i])
	}
}

// A digest depends neither on where a value lies in memory nor on the zone of a time. What cannot be printed so is
// not known.
func TestDigestsOfFields(t *testing.T) {
	t.Parallel()
	type stamp time.Time
	b := binding[any]{fields: [][]int{nil}}
	of := func(v any) uint32 { return b.digest(v, 0) }
	utc := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	there := utc.In(time.FixedZone("", 9*3600))
	ulm, bonn := "Ulm", "Bonn"
	for name, same := range map[string][2]any{
		"text": {"Ulm", &ulm}, "null": {nil, (*string)(nil)}, "nullable": {sql.NullString{String: "Ulm", Valid: true}, "Ulm"},
		"time": {utc, there}, "pointer": {&utc, &there}, "nullable time": {sql.NullTime{Time: utc, Valid: true}, sql.NullTime{Time: there, Valid: true}},
		"generic time": {sql.Null[time.Time]{V: utc, Valid: true}, sql.Null[time.Time]{V: there, Valid: true}}, "named time": {stamp(utc), stamp(there)},
		"struct": {Inner{"Ulm"}, &Inner{"Ulm"}}, "nil in a struct": {struct{ V *string }{}, struct{ V *string }{}}, "UTC in a struct": {struct{ V time.Time }{utc}, struct{ V time.Time }{utc}},
	} {
		require.NotEqualValues(t, unknown, of(same[0]), name)
		require.Equal(t, of(same[0]), of(same[1]), name)
	}
	require.EqualValues(t, null, of(sql.NullTime{}))
	require.NotEqual(t, of(ulm), of(bonn))
	require.NotEqual(t, of(utc), of(utc.Add(1)))
	for name, v := range map[string]any{
		"a pointer": struct{ V *string }{&ulm}, "deep": map[string]any{"a": []any{struct{ v *string }{&bonn}}}, "a zone": []time.Time{there}, "hidden": struct{ v time.Time }{there},
		"a func": struct{ F func() }{func() {}},
	} {
		require.EqualValues(t, unknown, of(v), name)
	}
}

// counted counts the values that are scanned into it.
type counted int

var scanned counted

func (*counted) Scan(any) error { scanned++; return nil }

// The row after the limit shows that there is one. Its values, which can be large, are not read.
func TestTheRowAfterTheLimitIsNotRead(t *testing.T) {
	f := &fake{columns: []string{"id", "v"}, rows: [][]driver.Value{{int64(1), int64(1), "a"}, {int64(2), int64(2), "b"}, {int64(3), int64(3), "c"}}}
	q := &Query[struct {
		ID int
		V  counted
	}]{DB: open(t, f), Select: "select 1", Key: []string{"id"}, Ceiling: ceiling.None{}, Dialect: postgres.Dialect{}, Logger: slog.New(slog.DiscardHandler)}
	b, err := q.Fetch(t.Context(), "", 2)
	require.NoError(t, err)
	require.Len(t, b.Records, 2)
	require.True(t, b.More)
	require.EqualValues(t, 2, scanned)
}
