%% escript does not read its first line.
main([Port]) ->
    {ok, Listening} = gen_tcp:listen(list_to_integer(Port),
        [binary, {packet, line}, {active, false}, {reuseaddr, true}, {ip, {127, 0, 0, 1}}]),
    Counter = spawn(fun() -> count(0) end),
    accept(Listening, Counter).

accept(Listening, Counter) ->
    {ok, Client} = gen_tcp:accept(Listening),
    spawn(fun() -> serve(Client, Counter) end),
    accept(Listening, Counter).

serve(Client, Counter) ->
    case gen_tcp:recv(Client, 0) of
        {ok, _} ->
            Counter ! self(),
            receive N -> gen_tcp:send(Client, [integer_to_list(N), "\n"]) end,
            serve(Client, Counter);
        _ -> gen_tcp:close(Client)
    end.

count(N) -> receive Who -> Who ! N + 1, count(N + 1) end.
