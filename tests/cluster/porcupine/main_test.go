package main

import (
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

func at(ns int64) *int64 { return &ns }

func check(history ...operation) bool {
	var all []porcupine.Operation
	for nth, one := range history {
		returned := int64(1 << 60)
		if one.Return != nil {
			returned = *one.Return
		}
		all = append(all, porcupine.Operation{ClientId: nth, Input: one, Call: one.Call, Return: returned})
	}
	result, _ := porcupine.CheckOperationsVerbose(model, all, time.Second)
	return result == porcupine.Ok
}

// Histories that the checker must accept or refuse, or it proves nothing.
func TestHistories(t *testing.T) {
	put := operation{Key: "k", Call: 0, Return: at(10), Kind: "put", Value: "a", Outcome: "done", Revision: 2}
	second := operation{Key: "k", Call: 20, Return: at(30), Kind: "put", Value: "b", Outcome: "done", Revision: 3}
	get := func(call, end int64, got string, revision int64) operation {
		return operation{Key: "k", Call: call, Return: at(end), Kind: "get", Outcome: "done", Got: got, Revision: revision}
	}
	unknown := operation{Key: "k", Call: 20, Kind: "put", Value: "b", Outcome: "unknown"}
	deleted := operation{Key: "k", Call: 20, Return: at(30), Kind: "delete", Outcome: "done", Deleted: true, Revision: 3}
	swap := func(revision int64, outcome string, found int64) operation {
		return operation{Key: "k", Call: 40, Return: at(50), Kind: "put", Value: "c", If: &revision, Outcome: outcome, Revision: found}
	}
	for name, c := range map[string]struct {
		want    bool
		history []operation
	}{
		"read of what was written":                {true, []operation{put, get(11, 12, "a", 2)}},
		"read of nothing before":                  {true, []operation{put, get(5, 12, "", 0)}},
		"lost write":                              {false, []operation{put, get(11, 12, "", 0)}},
		"stale read":                              {false, []operation{put, second, get(31, 32, "a", 2)}},
		"read of a value with another's revision": {false, []operation{put, second, get(31, 32, "b", 2)}},
		"unknown write seen":                      {true, []operation{put, unknown, get(31, 32, "b", 9)}},
		"unknown write not seen":                  {true, []operation{put, unknown, get(31, 32, "a", 2)}},
		"unknown write seen and gone again":       {false, []operation{put, unknown, get(31, 32, "b", 9), get(33, 34, "a", 2)}},
		"revision that falls":                     {false, []operation{second, {Key: "k", Call: 40, Return: at(50), Kind: "put", Value: "c", Outcome: "done", Revision: 3}}},
		"read after a delete":                     {false, []operation{put, deleted, get(31, 32, "a", 2)}},
		"delete of nothing that deleted":          {false, []operation{deleted}},
		"swap of the right revision":              {true, []operation{put, second, swap(3, "done", 4)}},
		"swap of an old revision":                 {false, []operation{put, second, swap(2, "done", 4)}},
		"refused swap":                            {true, []operation{put, second, swap(2, "failed", 3)}},
		"swap refused although it was right":      {false, []operation{put, second, swap(3, "failed", 3)}},
		"swap that takes an unknown write over":   {true, []operation{put, unknown, swap(7, "done", 8)}},
	} {
		if got := check(c.history...); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
