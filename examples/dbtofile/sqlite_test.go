package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
)

func TestOnceCopiesTheTable(t *testing.T) {
	t.Parallel()
	_, dsn := shop(t, 1000)
	dir := filepath.Join(t.TempDir(), "deep", "out")
	p := succeeds(t, "-dsn", dsn, "-table", "orders", "-key", "id", "-out", dir, "-once", "-batch", "70", "-segment-bytes", "2000")
	same(t, sold(1, 1000), content(t, dir, ".jsonl"))
	names := files(t, dir, ".jsonl")
	require.Greater(t, len(names), 5)
	require.Equal(t, "orders-0000000001.jsonl", filepath.Base(names[0]))
	require.Empty(t, files(t, dir, ".open"), "all files are complete")
	require.Equal(t, len(names), strings.Count(p.stderr.String(), `msg="file complete"`))
	require.Empty(t, p.stdout.String())
}

func TestOnceAgainCopiesNewRows(t *testing.T) {
	t.Parallel()
	db, dsn := shop(t, 10)
	dir := t.TempDir()
	args := []string{"-dsn", dsn, "-table", "orders", "-key", "id", "-out", dir, "-once"}
	succeeds(t, args...)
	succeeds(t, args...)
	require.Len(t, files(t, dir, ".jsonl"), 1, "no file without new rows")
	sell(db, 11, 25)
	succeeds(t, args...)
	same(t, sold(1, 25), content(t, dir, ".jsonl"))

	p := run(t, nil, append(args, "-key", "name")...)
	require.Equal(t, 1, p.code(), "the directory has another key")
	same(t, sold(1, 25), content(t, dir, ".jsonl"))
}

func TestAnEmptyTable(t *testing.T) {
	t.Parallel()
	for _, from := range []string{"first", "latest"} {
		db, dsn := shop(t, 0)
		dir := t.TempDir()
		args := []string{"-dsn", dsn, "-table", "orders", "-key", "id", "-out", dir, "-once", "-start", from}
		succeeds(t, args...)
		require.Empty(t, files(t, dir, ".jsonl"))
		sell(db, 1, 3)
		succeeds(t, args...)
		same(t, sold(1, 3), content(t, dir, ".jsonl"))
	}
}

func TestCSV(t *testing.T) {
	t.Parallel()
	db, dsn := shop(t, 0)
	db.MustExec(`CREATE TABLE notes (id INTEGER PRIMARY KEY AUTOINCREMENT, note TEXT)`)
	db.MustExec(`INSERT INTO notes (note) VALUES ('a, "b"'), (''), (NULL)`)
	dir := t.TempDir()
	succeeds(t, "-dsn", dsn, "-table", "notes", "-key", "id", "-out", dir, "-once", "-format", "csv", "-name", "n")
	require.Equal(t, filepath.Join(dir, "n-0000000001.csv"), files(t, dir, ".csv")[0])
	require.Equal(t, "id,note\r\n1,\"a, \"\"b\"\"\"\r\n2,\"\"\r\n3,\r\n", content(t, dir, ".csv"))
}

func TestStart(t *testing.T) {
	t.Parallel()
	db, dsn := shop(t, 5)
	db.MustExec(`CREATE TABLE lines (name TEXT NOT NULL, line INTEGER NOT NULL, PRIMARY KEY (name, line))`)
	db.MustExec(`INSERT INTO lines VALUES ('a', 1), ('a', 2), ('b,c', 1), ('b,c', 2)`)
	for from, want := range map[string]string{"first": sold(1, 5), "0": sold(1, 5), "3": sold(4, 5), "5": ""} {
		dir := t.TempDir()
		succeeds(t, "-dsn", dsn, "-table", "orders", "-key", "id", "-out", dir, "-once", "-start", from)
		require.Equal(t, want, content(t, dir, ".jsonl"), from)
	}
	for from, want := range map[string]string{
		"a,1":     `{"name":"a","line":2}` + "\n" + `{"name":"b,c","line":1}` + "\n" + `{"name":"b,c","line":2}` + "\n",
		`"b,c",1`: `{"name":"b,c","line":2}` + "\n",
	} {
		dir := t.TempDir()
		succeeds(t, "-dsn", dsn, "-table", "lines", "-key", "name,line", "-out", dir, "-once", "-start", from, "-ceiling", "none")
		require.Equal(t, want, content(t, dir, ".jsonl"), from)
	}

	db.MustExec(`CREATE TABLE pages (url TEXT PRIMARY KEY NOT NULL)`)
	db.MustExec(`INSERT INTO pages VALUES ('https://example.org/a'), ('https://example.org/b')`)
	pages := t.TempDir()
	succeeds(t, "-dsn", dsn, "-table", "pages", "-key", "url", "-out", pages, "-once", "-start", "https://example.org/a", "-ceiling", "single-writer")
	require.Equal(t, `{"url":"https://example.org/b"}`+"\n", content(t, pages, ".jsonl"))

	dir := t.TempDir()
	args := []string{"-dsn", dsn, "-table", "orders", "-key", "id", "-out", dir, "-once", "-start", "latest"}
	succeeds(t, args...)
	sell(db, 6, 8)
	succeeds(t, args...)
	sell(db, 9, 10)
	succeeds(t, args...)
	same(t, sold(6, 10), content(t, dir, ".jsonl")) // latest only applies to a new copy
}

func TestTheSecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	_, dsn := shop(t, 5)
	args := []string{"-dsn", dsn, "-table", "orders", "-key", "id", "-out", t.TempDir()}
	first := start(t, nil, args...)
	first.says("msg=started", 1)
	second := run(t, nil, args...)
	require.Equal(t, 1, second.code())
	require.Regexp(t, `dbtofile: .*the directory is in use by process \d+`, second.stderr.String())
}

func TestFollowingTheTable(t *testing.T) {
	t.Parallel()
	db, dsn := shop(t, 5)
	dir := t.TempDir()
	start(t, nil, "-dsn", dsn, "-table", "orders", "-key", "id", "-out", dir, "-interval", "10ms", "-segment-age", "50ms")
	for last := 5; last <= 20; last += 5 {
		require.Eventually(t, func() bool { return content(t, dir, ".jsonl") == sold(1, last) }, patience, 10*time.Millisecond)
		sell(db, last+1, last+5)
	}
}

func TestUnusualPaths(t *testing.T) {
	t.Parallel()
	d := dbtest.SQLite(t)
	db := d.Open(t, dbtest.NCruces)
	db.MustExec(`PRAGMA journal_mode = delete`)
	db.MustExec(`CREATE TABLE orders (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL)`)
	sell(db, 1, 2)
	odd := filepath.Join(t.TempDir(), "a b?c#d%20é.db")
	text, err := os.ReadFile(d.Name())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(odd, text, 0o600))
	wd, err := os.Getwd()
	require.NoError(t, err)
	relative, err := filepath.Rel(wd, odd)
	require.NoError(t, err)
	for _, path := range []string{odd, "/" + odd, relative} {
		dir := t.TempDir()
		succeeds(t, "-dsn", "sqlite:"+path, "-table", "orders", "-key", "id", "-out", dir, "-once")
		same(t, sold(1, 2), content(t, dir, ".jsonl"))
	}
}
