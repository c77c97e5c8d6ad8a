package survey

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/recommend"
)

// means returns a means of a table.
func (d database) means(t *testing.T, pattern, name string) recommend.Means {
	t.Helper()
	tables, err := recommend.Tables(context(), d.DB, pattern)
	require.NoError(t, err)
	require.Len(t, tables, 1, pattern)
	for _, m := range tables[0].Means {
		if m.Name == name {
			return m
		}
	}
	require.Fail(t, "no such means", "%s of %s", name, pattern)
	return recommend.Means{}
}

// The log is not offered where a partition or a child that is added later could not be updated.
func TestLogOfTablesWithPartitions(t *testing.T) {
	d := open(t, "postgres")
	d.MustExec(`create table ev (id int not null, v int) partition by list (id); create unique index on ev (id);
		create table keyed (id int primary key) partition by list (id); create table par (id int primary key); create table child () inherits (par)`)
	assert.Contains(t, d.means(t, "ev", "log").Refused, "added later")
	assert.Contains(t, d.means(t, "par", "log").Refused, "added later")
	assert.Empty(t, d.means(t, "keyed", "log").Refused)
	assert.Contains(t, d.means(t, "child", "log").Script[len(d.means(t, "child", "log").Script)-1], "PUBLICATION")
}

// A key of a parent does not tell its children's rows apart.
func TestKeyOfParent(t *testing.T) {
	d := open(t, "postgres")
	d.MustExec(`create table par (id int primary key); create table child (primary key (id)) inherits (par);
		insert into par values (1); insert into child values (1)`)
	for _, name := range []string{"xmin scan", "diff", "keyset"} {
		assert.Contains(t, d.means(t, "par", name).Refused, "no key", name)
	}
	assert.Empty(t, d.means(t, "child", "xmin scan").Refused)
}

// Statements are run by who has the rights for them. Only a superuser may change the server's settings and roles.
func TestWhoRunsStatements(t *testing.T) {
	d := open(t, "postgres")
	d.MustExec(`create table t (id int primary key)`)
	assert.Equal(t, "a superuser", d.means(t, "t", "log").RunAs)
	assert.Equal(t, "the table's owner", d.means(t, "t", "change table").RunAs)
	tables, err := recommend.Tables(context(), d.DB, "t")
	require.NoError(t, err)
	assert.Contains(t, recommend.Text(tables), "run first, as a superuser, with")
	assert.Contains(t, recommend.Text(tables), "run first, as the table's owner, with")
}

// A view whose table was dropped does not hide the other tables.
func TestBrokenView(t *testing.T) {
	d := open(t, "sqlite")
	d.MustExec(`create table gone (id integer primary key); create view broken as select * from gone; drop table gone; create table t (id integer primary key)`)
	assert.Empty(t, d.means(t, "t", "diff").Refused)
	tables, err := recommend.Tables(context(), d.DB, "")
	require.NoError(t, err)
	assert.Len(t, tables, 2)
}

// A table is found by its name with the database in front of it, as statements have it.
func TestNameWithDatabase(t *testing.T) {
	for engine, database := range map[string]string{"mariadb": "SELECT DATABASE()", "sqlite": "SELECT 'main'"} {
		d := open(t, engine)
		d.MustExec(`create table orders (id int not null primary key)`)
		var name string
		require.NoError(t, d.Get(&name, database))
		for _, pattern := range []string{"orders", name + ".orders", name + ".*"} {
			assert.Empty(t, d.means(t, pattern, "diff").Refused)
		}
		tables, err := recommend.Tables(context(), d.DB, "other.orders")
		require.NoError(t, err)
		assert.Empty(t, tables)
	}
}
