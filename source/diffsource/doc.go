// Package diffsource finds the changes of any table or view by comparing passes over it:
// every row that is new, changed or gone since the last pass. It needs SELECT only.
//
//	orders := &diffsource.Source{
//		Table: &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}},
//		Dir:   "state/orders",
//		Every: time.Hour,
//	}
//	defer orders.Close()
//
// It is a source.Source of row.Change: a Poller delivers its changes to a sink and saves its
// cursor. The first pass delivers each row as an upsert, later passes deliver inserts, updates
// and deletes.
package diffsource
