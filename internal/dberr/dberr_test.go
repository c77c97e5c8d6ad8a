package dberr

import (
	"errors"
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestSQLite(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code          int
		message, text string
		kind          Kind
	}{
		{1, "SQL logic error: no such table: t (1)", "SQLite error 1 (ERROR): no such table: t", Setup},
		{1, `SQL logic error: near "FORM": syntax error (1)`, `SQLite error 1 (ERROR): near "FORM": syntax error`, Setup},
		{1, "malformed JSON: hunter2", "SQLite error 1 (ERROR)", Setup},
		{5, "database is locked", "SQLite error 5 (BUSY)", Other},
		{517, "database is locked", "SQLite error 517 (BUSY)", Other},
		{13, "database or disk is full", "SQLite error 13 (FULL)", Other},
		{14, "unable to open database file", "SQLite error 14 (CANTOPEN)", Setup},
		{19, "constraint failed", "SQLite error 19 (CONSTRAINT)", Data},
		{20, "datatype mismatch", "SQLite error 20 (MISMATCH)", Data},
		{1299, "NOT NULL constraint failed: t.a", "SQLite error 1299 (CONSTRAINT): NOT NULL constraint failed: t.a", Data},
		{1811, "UNIQUE constraint failed: hunter2", "SQLite error 1811 (CONSTRAINT)", Data},
		{2067, "UNIQUE constraint failed: t.a, t.b (2067)", "SQLite error 2067 (CONSTRAINT): UNIQUE constraint failed: t.a, t.b", Data},
		{26, "file is not a database", "SQLite error 26 (NOTADB)", Setup},
		{101, "", "SQLite error 101 (unknown)", Other},
		{-1, "", "SQLite error -1 (unknown)", Other},
	} {
		text, kind := sqlite(c.code, c.message)
		assert.Equal(t, c.text, text)
		assert.Equal(t, c.kind, kind, c.text)
	}
}

// Types that only resemble those of a driver are not read.
func TestStrangers(t *testing.T) {
	t.Parallel()
	for _, err := range []error{errors.New("x"), MySQLError{"x"}, numbered(7), fields{}, reflectless(nil)} {
		_, _, ok := Read(err)
		assert.False(t, ok, "%T", err)
	}
}

type MySQLError struct{ Number string }

func (MySQLError) Error() string { return "x" }

type numbered int

func (numbered) Error() string { return "x" }
func (numbered) Code() int     { return 5 }

type fields struct{ ExtendedCode, Number, Message int }

func (fields) Error() string { return "x" }

type reflectless func()

func (reflectless) Error() string { return "x" }

func TestFieldsOfOtherTypesAreIgnored(t *testing.T) {
	t.Parallel()
	text, kind := postgres("23505", reflect.ValueOf(fields{Message: 1}))
	assert.Equal(t, "SQLSTATE 23505: duplicate key", text)
	assert.Equal(t, Data, kind)
	text, kind = postgres("", reflect.ValueOf(7))
	assert.Equal(t, "SQLSTATE ", text)
	assert.Equal(t, Other, kind)
}
