package sqlsource

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// checkTypes creates a table with a column of each type, and compares what is known of them. In
// the expected types the Name may be left out, if it is that of the declaration.
func checkTypes(t *testing.T, db *sqlx.DB, options string, want [][2]any) {
	t.Helper()
	defs := []string{"id integer not null primary key"}
	for i, w := range want {
		defs = append(defs, fmt.Sprintf("c%d %s", i, w[0]))
	}
	db.MustExec("drop table if exists typed")
	db.MustExec("create table typed (" + strings.Join(defs, ", ") + ") " + options)
	db.MustExec("insert into typed (id) values (1)")
	table := &sqlsource.Table{DB: db, Name: "typed", Key: []string{"id"}, Ceiling: ceiling.None{}}
	b, err := lab.Fetch(t, table, "", 10)
	require.NoError(t, err)
	columns := b.Records[0].Columns()
	require.True(t, columns.Type(0).NotNull)
	for i, w := range want {
		expected := w[1].(row.Type)
		if expected.Name == "" {
			expected.Name = w[0].(string)
		}
		assert.Equal(t, expected, columns.Type(i+1), "%s", w[0])
	}
}

func TestColumnTypesOfPostgres(t *testing.T) {
	lab.EachPostgresDriver(t, func(t *testing.T, db *sqlx.DB) {
		db.MustExec(`create domain cents as numeric(12,2); create domain price as cents; create type mood as enum ('sad', 'ok'); create type pair as (a int, b int)`)
		checkTypes(t, db, "", [][2]any{
			{"boolean", row.Type{Class: row.Boolean}},
			{"smallint", row.Type{Class: row.Integer, Bits: 16}},
			{"integer", row.Type{Class: row.Integer, Bits: 32}},
			{"bigint", row.Type{Class: row.Integer, Bits: 64}},
			{"oid", row.Type{Class: row.Unsigned, Bits: 32}},
			{"xid8", row.Type{Class: row.Unsigned, Bits: 64}},
			{"numeric", row.Type{Class: row.Decimal}},
			{"numeric(20,5)", row.Type{Class: row.Decimal, Precision: 20, Scale: 5}},
			{"numeric(5)", row.Type{Name: "numeric(5,0)", Class: row.Decimal, Precision: 5}},
			{"numeric(3,-2)", row.Type{Class: row.Decimal, Precision: 3, Scale: -2}},
			{"real", row.Type{Class: row.Float, Bits: 32}},
			{"double precision", row.Type{Class: row.Float, Bits: 64}},
			{"text", row.Type{Class: row.String}},
			{"varchar(10)", row.Type{Name: "character varying(10)", Class: row.String, Length: 10}},
			{"character varying", row.Type{Class: row.String}},
			{"char(7)", row.Type{Name: "character(7)", Class: row.String, Length: 7}},
			{`"char"`, row.Type{Class: row.String}},
			{"name", row.Type{Class: row.String}},
			{"xml", row.Type{Class: row.String}},
			{"bytea", row.Type{Class: row.Binary}},
			{"uuid", row.Type{Class: row.UUID}},
			{"json", row.Type{Class: row.Document}},
			{"jsonb", row.Type{Class: row.Document}},
			{"date", row.Type{Class: row.CalendarDate}},
			{"time", row.Type{Name: "time without time zone", Class: row.TimeOfDay}},
			{"time(3)", row.Type{Name: "time(3) without time zone", Class: row.TimeOfDay}},
			{"timetz", row.Type{Name: "time with time zone", Class: row.TimeOfDayTZ}},
			{"timestamp", row.Type{Name: "timestamp without time zone", Class: row.DateTime}},
			{"timestamp(3)", row.Type{Name: "timestamp(3) without time zone", Class: row.DateTime}},
			{"timestamptz", row.Type{Name: "timestamp with time zone", Class: row.Instant}},
			{"timestamptz(0)", row.Type{Name: "timestamp(0) with time zone", Class: row.Instant}},
			{"interval", row.Type{Class: row.Interval}},
			{"interval day to second(3)", row.Type{Class: row.Interval}},
			{"integer[]", row.Type{Class: row.Array}},
			{"numeric(5,2)[]", row.Type{Class: row.Array}},
			{"price", row.Type{Class: row.Decimal, Precision: 12, Scale: 2}},
			{"price[]", row.Type{Class: row.Array}},
			{"mood", row.Type{Class: row.String}},
			{"pair", row.Type{}}, {"inet", row.Type{}}, {"int4range", row.Type{}}, {"money", row.Type{}}, {"point", row.Type{}}, {"tsvector", row.Type{}}, {"bit(3)", row.Type{}},
			{"text not null default ''", row.Type{Name: "text", Class: row.String, NotNull: true}},
		})
		// A view has a catalogue, but its columns may hold NULL.
		db.MustExec(`create view seen as select id, c7 from typed`)
		b, err := lab.Fetch(t, &sqlsource.Table{DB: db, Name: "seen", Key: []string{"id"}, Ceiling: ceiling.None{}}, "", 10)
		require.NoError(t, err)
		require.Equal(t, row.Type{Name: "numeric(20,5)", Class: row.Decimal, Precision: 20, Scale: 5}, b.Records[0].Columns().Type(1))
		// After a change the columns have the new type.
		db.MustExec(`create table changing (id int primary key, v varchar(10)); insert into changing values (1), (2)`)
		table := lab.Silent(db, "changing", "id")
		table.Ceiling = ceiling.None{}
		b, err = lab.Fetch(t, table, "", 1)
		require.NoError(t, err)
		require.Equal(t, 10, b.Records[0].Columns().Type(1).Length)
		db.MustExec(`alter table changing alter v type varchar(20)`)
		b, err = lab.Fetch(t, table, b.To, 1)
		require.NoError(t, err)
		require.Equal(t, 20, b.Records[0].Columns().Type(1).Length)
	})
}

func TestColumnTypesOfMariaDB(t *testing.T) {
	t.Parallel()
	db := dbtest.MariaDB(t).NewDatabase(t).Open(t, dbtest.MySQL)
	checkTypes(t, db, "", [][2]any{
		{"tinyint(4)", row.Type{Class: row.Integer, Bits: 8}},
		{"boolean", row.Type{Name: "tinyint(1)", Class: row.Integer, Bits: 8}},
		{"smallint(5) unsigned", row.Type{Class: row.Unsigned, Bits: 16}},
		{"mediumint(9)", row.Type{Class: row.Integer, Bits: 24}},
		{"int(11)", row.Type{Class: row.Integer, Bits: 32}},
		{"int(10) unsigned zerofill", row.Type{Class: row.Unsigned, Bits: 32}},
		{"bigint(20)", row.Type{Class: row.Integer, Bits: 64}},
		{"bigint(20) unsigned", row.Type{Class: row.Unsigned, Bits: 64}},
		{"decimal(65,30)", row.Type{Class: row.Decimal, Precision: 65, Scale: 30}},
		{"decimal(10,2) unsigned", row.Type{Class: row.Decimal, Precision: 10, Scale: 2}},
		{"float", row.Type{Class: row.Float, Bits: 32}},
		{"double", row.Type{Class: row.Float, Bits: 64}},
		{"bit(9)", row.Type{Class: row.Unsigned, Bits: 64}},
		{"char(3)", row.Type{Class: row.String, Length: 3}},
		{"varchar(300)", row.Type{Class: row.String, Length: 300}},
		{"text", row.Type{Class: row.String}},
		{"longtext", row.Type{Class: row.String}},
		{"json", row.Type{Name: "longtext", Class: row.String}},
		{"enum('a','b(1)')", row.Type{Class: row.String}},
		{"set('a','b')", row.Type{Class: row.String}},
		{"binary(4)", row.Type{Class: row.Binary, Length: 4}},
		{"varbinary(300)", row.Type{Class: row.Binary, Length: 300}},
		{"longblob", row.Type{Class: row.Binary}},
		{"date", row.Type{Class: row.CalendarDate}},
		{"time(6)", row.Type{Class: row.TimeOfDay}},
		{"datetime", row.Type{Class: row.DateTime}},
		{"datetime(6)", row.Type{Class: row.DateTime}},
		{"timestamp(6) null", row.Type{Name: "timestamp(6)", Class: row.DateTime}},
		{"year(4)", row.Type{Class: row.Unsigned, Bits: 16}},
		{"uuid", row.Type{Class: row.UUID}},
		{"inet6", row.Type{}},
		{"point", row.Type{Class: row.Binary}},
		{"text not null default ''", row.Type{Name: "text", Class: row.String, NotNull: true}},
	})
}

func TestColumnTypesOfSQLite(t *testing.T) {
	t.Parallel()
	for _, driver := range dbtest.SQLite(t).Drivers() {
		db := dbtest.SQLite(t).Open(t, driver)
		// What a column of a table without STRICT declares does not bind its values.
		checkTypes(t, db, "", [][2]any{
			{"INTEGER", row.Type{}}, {"VARCHAR(10)", row.Type{}}, {"DECIMAL(10,5)", row.Type{}}, {"", row.Type{}}, {"TEXT NOT NULL DEFAULT ''", row.Type{Name: "TEXT", NotNull: true}},
		})
		b, err := lab.Fetch(t, &sqlsource.Table{DB: db, Name: "typed", Key: []string{"id"}, Ceiling: ceiling.None{}}, "", 10)
		require.NoError(t, err)
		require.Equal(t, row.Type{Name: "INTEGER", Class: row.Integer, Bits: 64, NotNull: true}, b.Records[0].Columns().Type(0))
		checkTypes(t, db, "STRICT", [][2]any{
			{"INT", row.Type{Class: row.Integer, Bits: 64}},
			{"INTEGER", row.Type{Class: row.Integer, Bits: 64}},
			{"REAL", row.Type{Class: row.Float, Bits: 64}},
			{"TEXT", row.Type{Class: row.String}},
			{"BLOB", row.Type{Class: row.Binary}},
			{"ANY", row.Type{}},
		})
	}
}
